"""Scans with source and target channels, in their own grid and units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan
from medgan.evaluation.translation.body import body_mask
from medgan.evaluation.translation.metrics import SSIM_WINDOW


@dataclass(frozen=True)
class Channels:
    """What is translated into what.

    Attributes:
        source, target: names of channels.
        ct: those of them that are CT, in HU.
        unseen: by channel the value of voxels outside of its field of view.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    ct: frozenset[str]
    unseen: Mapping[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.source, *self.target)


@dataclass(frozen=True)
class PairedScan:
    """A registered scan, its axes Right, Anterior and Superior.

    Attributes:
        case: pseudonym.
        source, target: images by channel, (X, Y, Z) float32, NaN where nothing was seen.
        spacing: mm.
        body: by CT where any channel is CT, else by the first source channel.
        source_body: by source channels alone, as it is known before anything is translated.
        tumour: label above 0; None without a label map.
    """

    case: str
    source: dict[str, np.ndarray]
    target: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    body: np.ndarray
    source_body: np.ndarray
    tumour: np.ndarray | None

    def region(self, channel: str) -> np.ndarray:
        """Voxels of the body that were seen in all source channels and in this target channel."""
        seen = [np.isfinite(image) for image in (*self.source.values(), self.target[channel])]
        return self.body & np.logical_and.reduce(seen)


def paired_scan(scan: CheckedScan, channels: Channels, case: str) -> PairedScan:
    """A checked scan as source and target.

    Args:
        scan: with all channels.
        channels: source and target.
        case: its pseudonym.

    Raises:
        DataError: E_SIZE for a scan of fewer than 7 voxels an axis, E_CONTRAST where no voxel of
            its body was seen in all channels.
    """
    images = {name: scan.images[name].volume for name in channels.names}
    seen = {name: _seen(images[name], channels.unseen.get(name)) for name in channels.names}
    first = next(iter(seen.values()))
    if min(first.shape) < SSIM_WINDOW:
        raise DataError("E_SIZE", case, "fewer than 7 voxels along an axis", "leave the scan out")
    label = scan.label.volume.canonical().data > 0 if scan.label else None
    source, target = (
        {name: seen[name] for name in names} for names in (channels.source, channels.target)
    )
    found = PairedScan(
        case, source, target, images[channels.source[0]].canonical().spacing,
        _body(seen, channels.names, channels.ct), _body(seen, channels.source, channels.ct), label,
    )  # fmt: skip
    if not all(found.region(name).any() for name in channels.target):
        raise DataError(
            "E_CONTRAST", case, "no voxel of the body was seen in all channels",
            "register the channels, or leave the scan out",
        )  # fmt: skip
    return found


def _seen(volume: Volume, unseen: float | None) -> np.ndarray:
    data = np.array(volume.canonical().data, np.float32)
    if unseen is not None:
        data[data == unseen] = np.nan
    return data


def _body(images: Mapping[str, np.ndarray], names: Sequence[str], ct: frozenset[str]) -> np.ndarray:
    chosen = next((name for name in names if name in ct), names[0])
    return body_mask(images[chosen], chosen in ct)
