"""Scans with source and target channels, in their own grid and units."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan
from medgan.data.intensities import intensity_scale, synthetic_scale
from medgan.evaluation.translation.body import body_mask
from medgan.evaluation.translation.metrics import SSIM_WINDOW


@dataclass(frozen=True)
class Channels:
    """What is translated into what.

    Attributes:
        source, target: names of channels.
        preprocessing: kinds of intensities, and values of voxels that were not seen.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.source, *self.target)

    def unit(self, channel: str) -> str:
        """HU, SUV, that of `data.ranges`, or that of MRI, which has none."""
        if channel in self.preprocessing.ranges:
            return "as stored"
        return {"ct": "HU", "pet": "SUV"}.get(self._kind(channel), "0 to 1000")

    def is_ct(self, channel: str) -> bool:
        """Whether a channel is in HU."""
        return self._kind(channel) == "ct"

    def in_unit(self, volume: Volume, channel: str) -> np.ndarray:
        """An image in its unit, axes Right, Anterior and Superior, NaN where nothing was seen.

        MRI is put on its scale by its own percentiles, as it is before a network learns from it.
        """
        data = np.array(volume.canonical().data, np.float32)
        unseen = data == self.preprocessing.unseen.get(channel)
        if self._kind(channel) == "mri":
            scale = intensity_scale(data, self.preprocessing, channel)
            values = scale(torch.from_numpy(data)).numpy()
            data = synthetic_scale(self.preprocessing, channel).back(values)
        return np.where(unseen, np.float32(np.nan), data)

    def scaled(self, image: np.ndarray, channel: str) -> np.ndarray:
        """An image in its unit as networks see it, in [-1, 1]; -1 where nothing was seen."""
        scale = synthetic_scale(self.preprocessing, channel)
        values = scale(torch.from_numpy(np.nan_to_num(image, nan=scale.intensities[0]))).numpy()
        return np.where(np.isfinite(image), values, np.float32(-1))

    def _kind(self, channel: str) -> str:
        return self.preprocessing.intensity_of(channel)


@dataclass(frozen=True)
class PairedScan:
    """A registered scan, its axes Right, Anterior and Superior.

    Attributes:
        case, subject: pseudonyms.
        source, target: images by channel, (X, Y, Z) float32, NaN where nothing was seen.
        spacing: mm.
        body: by CT where any channel is CT, else by the first source channel.
        source_body: by source channels alone, as it is known before anything is translated.
        tumour: label above 0; None without a label map.
    """

    case: str
    subject: str
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


def paired_scan(scan: CheckedScan, channels: Channels, case: str, subject: str) -> PairedScan:
    """A checked scan as source and target.

    Args:
        scan: with all channels.
        channels: source and target.
        case: its pseudonym.
        subject: that of its subject.

    Raises:
        DataError: E_SIZE for a scan of fewer than 7 voxels an axis, E_CONTRAST where no voxel of
            its body was seen in all channels.
    """
    volumes = {name: scan.images[name].volume for name in channels.names}
    images = {name: channels.in_unit(volume, name) for name, volume in volumes.items()}
    if min(images[channels.source[0]].shape) < SSIM_WINDOW:
        raise DataError("E_SIZE", case, "fewer than 7 voxels along an axis", "leave the scan out")
    label = scan.label.volume.canonical().data > 0 if scan.label else None
    source, target = (
        {name: images[name] for name in names} for names in (channels.source, channels.target)
    )
    found = PairedScan(
        case, subject, source, target, volumes[channels.source[0]].canonical().spacing,
        _body(source | target, channels, channels.names), _body(source, channels, channels.source),
        label,
    )  # fmt: skip
    if not all(found.region(name).any() for name in channels.target):
        raise DataError(
            "E_CONTRAST", case, "no voxel of the body was seen in all channels",
            "register the channels, or leave the scan out",
        )  # fmt: skip
    return found


def _body(images: dict[str, np.ndarray], channels: Channels, names: Sequence[str]) -> np.ndarray:
    chosen = next((name for name in names if channels.is_ct(name)), names[0])
    return body_mask(images[chosen], channels.is_ct(chosen))
