"""Settings of the DICOM node."""

from pydantic import Field

from medgan.core.config.fields import Section


class PacsConfig(Section):
    """The DICOM node, `medgan pacs`: when a study is complete, and how long it is kept."""

    quiet_seconds: float = Field(
        60.0, gt=0, description="a study that has got no file for so long is complete"
    )
    keep_hours: float = Field(
        24.0,
        ge=0,
        description="hours until the files of a study are deleted once its results were sent, or "
        "it was refused",
    )
    poll_seconds: float = Field(
        60.0, gt=0, description="between two looks for new studies over DICOMweb"
    )
