"""What a model's verbs take as a scan, and how it becomes a prepared one."""

import logging
from pathlib import Path

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan, check_image, check_volume
from medgan.data.prepare import Preparation, PreparedScan

log = logging.getLogger(__name__)
Scan = str | Path | Volume | CheckedScan | PreparedScan
"""A NIfTI file, a volume in the scanner's intensities, or a scan that was checked or prepared."""


def prepare(preparation: Preparation, scan: Scan, case: str) -> PreparedScan:
    """Reads and checks a scan unless that was done, and brings it to the model's grid.

    Args:
        preparation: of the model.
        scan: a prepared scan is returned as it is.
        case: the name under which an error or a note speaks of it.

    Raises:
        DataError: when `medgan check` refuses the scan; E_CHANNEL when it has another number of
            image channels than the model.
    """
    if isinstance(scan, PreparedScan):
        return scan
    if isinstance(scan, Volume):
        check_volume(scan, case)
        volumes = (scan,)
    elif isinstance(scan, CheckedScan):
        volumes = scan.volumes
    else:
        file = check_image(Path(scan), case)
        volumes = (file.volume,)
        for note in file.notes:
            log.warning("%s", note)
    channels = preparation.preprocessing.channels
    if len(volumes) != len(channels):
        raise DataError(
            "E_CHANNEL", case, f"{len(volumes)} image channels, the model has {len(channels)}",
            f"give {', '.join(channels)}, by data.channels",
        )  # fmt: skip
    return preparation(volumes, case)
