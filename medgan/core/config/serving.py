"""Settings of the server."""

from pydantic import Field

from medgan.core.config.fields import Count, Positive, Section


class ServeConfig(Section):
    """The server of scores and synthetic scans."""

    queue: Count = Field(
        16, description="requests that may wait; others are told when to try again (429)"
    )
    timeout_s: Positive = Field(
        300.0, description="seconds from a request to its answer, upload and waiting included"
    )
    upload_mb: Count = Field(512, description="MB of an upload")
    unpacked_mb: Count = Field(
        1024, description="MB of a scan's voxels in memory, or of the files of a DICOM series"
    )
    scans: Count = Field(8, description="synthetic scans of one request")
    results: Count = Field(64, description="results kept for their maps, pages and scans")
    keep_minutes: Positive = Field(15.0, description="minutes after which a result is deleted")
    follow_s: Positive = Field(5.0, description="seconds between two looks at the alias")
