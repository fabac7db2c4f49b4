"""What a model's verbs take as a scan, and how it becomes a prepared one."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan, check_image, check_volume, require_one_grid
from medgan.data.prepare import Preparation, PreparedScan

log = logging.getLogger(__name__)
Scan = str | Path | Volume | Mapping[str, str | Path | Volume] | CheckedScan | PreparedScan
"""A NIfTI file or a volume in the scanner's intensities; for several channels a mapping from their
names to these; or a scan that was checked or prepared."""


def prepare(preparation: Preparation, scan: Scan, case: str) -> PreparedScan:
    """Reads and checks a scan unless that was done, and brings it to the model's grid.

    Args:
        preparation: of the model.
        scan: a prepared scan is returned as it is.
        case: the name under which an error or a note speaks of it.

    Raises:
        DataError: when `medgan check` refuses the scan; E_CHANNEL when it has other image
            channels than the model, E_CHANNEL_GRID when these lie on different grids.
    """
    if isinstance(scan, PreparedScan):
        return scan
    channels = preparation.preprocessing.channels
    if isinstance(scan, CheckedScan):
        volumes = dict(zip(scan.images, scan.volumes, strict=True))
    elif isinstance(scan, Mapping):
        volumes = {name: _checked(one, case) for name, one in scan.items()}
    else:
        volumes = {channels[0]: _checked(scan, case)}
    ordered = _in_order(volumes, channels, case)
    require_one_grid(dict(zip(channels, ordered, strict=True)), case)
    return preparation(ordered, case)


def _checked(scan: str | Path | Volume, case: str) -> Volume:
    if isinstance(scan, Volume):
        check_volume(scan, case)
        return scan
    file = check_image(Path(scan), case)
    for note in file.notes:
        log.warning("%s", note)
    return file.volume


def _in_order(
    volumes: Mapping[str, Volume], channels: Sequence[str], case: str
) -> tuple[Volume, ...]:
    """The channels in the order of the model; one channel may have any name."""
    if len(volumes) == len(channels) == 1:
        return tuple(volumes.values())
    if set(volumes) != set(channels):
        raise DataError(
            "E_CHANNEL", case,
            f"channels {', '.join(volumes) or 'none'}; the model has {', '.join(channels)}",
            "name the channels of the scan as the model does, by data.channels",
        )  # fmt: skip
    return tuple(volumes[channel] for channel in channels)
