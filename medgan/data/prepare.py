"""From a scan in its own grid to the model's grid and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.intensity import IntensityScale
from medgan.core.volume import Volume
from medgan.data.align import Aligner
from medgan.data.alignment import Alignment
from medgan.data.cleaning import CleanScan, clean
from medgan.data.grid import Centred, Grid, check_resampled_size
from medgan.data.intensities import intensity_scale, registered, synthetic_scale
from medgan.data.standardise import landmark_scale, scaled, without_shading

_FAILED = 8.0
"""An alignment has failed where one minus its agreement is this many times that of the template's
scans: of 150 brains none was above 3; turned by 90 or 180 degrees and not found, they began at 9.
"""
_MIXED = 1e-3
"""Share of a voxel beyond a channel's field of view from which on it counts as not seen."""


@runtime_checkable
class Placement(Protocol):
    """Where the model's grid lies in a scan."""

    def back(self, data: Float[np.ndarray, "X Y Z"], outside: float) -> Float[np.ndarray, "I J K"]:
        """A map of the model's grid on the scan's own; `outside` beyond the field of view."""
        ...

    def label_map(self, label: Volume) -> Int[np.ndarray, "X Y Z"]:
        """A label map of the scan on the model's grid."""
        ...


@dataclass(frozen=True)
class PreparedScan:
    """A scan that was read and checked once, on the model's grid.

    Attributes:
        volume: in [-1, 1] on the model's grid; NaN where a channel was not seen, for a model that
            makes one image of another.
        scale: of each channel, from the scanner's intensities to [-1, 1].
        source: the channels in their own grid and intensities, which all share one grid.
        part: what of it was prepared, without skull or bias field; None for the whole as it is.
        shading: smooth difference from the template that was taken off after the scale; None for a
            model without a template.
        agreement: of the aligned scan with the template, `Alignment`; None for a model without.
        unseen: (X, Y, Z), where anatomy of the template lies beyond the scan's field of view; the
            volume is the template's mean there. None for a model without a template.
    """

    volume: Float[Tensor, "C X Y Z"]
    scale: tuple[IntensityScale, ...]
    source: tuple[Volume, ...]
    _placement: Placement
    part: CleanScan | None = None
    shading: Float[np.ndarray, "C X Y Z"] | None = None
    agreement: float | None = None
    unseen: Bool[np.ndarray, "X Y Z"] | None = None

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Voxel indices of the scan's own grid to mm."""
        return self.source[0].affine

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the scan's own grid."""
        return self.source[0].data.shape

    @property
    def field_of_view(self) -> Float[np.ndarray, "3"]:
        """Extent of what was prepared, in mm along Right, Anterior and Superior."""
        return self.cut(self.source[0]).field_of_view

    def cut(self, volume: Volume) -> Volume:
        """The part that was prepared, of a volume on the scan's own grid."""
        return volume if self.part is None else self.part.cut(volume)

    def back(self, data: Float[np.ndarray, "X Y Z"], outside: float = 0.0) -> Volume:
        """Carries a map from the model's grid into the scan's own.

        Args:
            data: on the model's grid.
            outside: value beyond the model's field of view.

        Returns:
            float32 in the axes, shape and geometry of the scan.
        """
        native = self._placement.back(data, outside)
        if self.part is not None:
            native = self.part.embed(native, outside)
        return self.source[0].like(native)

    def label_map(self, label: Volume) -> Int[np.ndarray, "X Y Z"]:
        """A checked label map of the scan on the model's grid."""
        return self._placement.label_map(self.cut(label))

    def intensities(
        self, volume: Float[np.ndarray, "X Y Z"], channel: int = 0
    ) -> Float[np.ndarray, "X Y Z"]:
        """An image in [-1, 1] in the scan's own intensities, on the model's grid."""
        if self.shading is not None:
            volume = volume + self.shading[channel]
        return self.scale[channel].back(volume)

    def in_scanner_units(self, volume: Float[np.ndarray, "X Y Z"], channel: int = 0) -> Volume:
        """An image in [-1, 1] on the model's grid, in the scan's own grid and intensities."""
        lowest = self.scale[channel].intensities[0]
        return self.back(self.intensities(volume, channel), outside=lowest)

    def on_template(self, position: Sequence[float]) -> Float[np.ndarray, "3"] | None:
        """Voxel indices of the template at a position of the scan, in mm RAS+.

        None where the scan was not aligned.
        """
        if not isinstance(self._placement, Alignment):
            return None
        to_scan = self.cut(self.source[0]).affine @ self._placement.matrix
        return (np.linalg.inv(to_scan) @ [*position, 1.0])[:3]

    def counterpart(self, volume: Float[np.ndarray, "X Y Z"], channel: int = 0) -> Volume:
        """A healthy volume in [-1, 1] on the model's grid, in the scan's own grid and intensities.

        Where an aligned scan was not prepared, as outside of a stripped brain, it is the scan.
        """
        source, aligned = self.source[channel], isinstance(self._placement, Alignment)
        outside = math.nan if aligned else self.scale[channel].intensities[0]
        native = self._placement.back(self.intensities(volume, channel), outside)
        if self.part is None:
            return source.like(np.where(np.isnan(native), source.data, native))
        return source.like(self.part.counterpart(native, source.data, channel))

    def stretched(self, gain: float, offset: float) -> "PreparedScan":
        """The scan with every value v as `gain * v + offset`, clipped to [-1, 1]."""
        return replace(
            self,
            volume=(self.volume * gain + offset).clip(-1, 1),
            scale=tuple(scale.stretched(gain, offset) for scale in self.scale),
        )


class Preparation:
    """Checked scans from their own grid to the model's.

    Args:
        preprocessing: the model's.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self._aligner: Aligner | None = None
        if preprocessing.align == "none":
            self._grids = Grid(preprocessing), Grid(preprocessing, labels=True)
        else:
            self._template = preprocessing.known_template
            self._aligner = Aligner(
                self._template.mean[0], preprocessing.spacing, preprocessing.align,
                self._template.agreement,
            )  # fmt: skip

    def __call__(self, scan: Volume | Sequence[Volume], case: str = "the scan") -> PreparedScan:
        """A checked scan on the model's grid.

        Args:
            scan: one channel, or all in the order of the model's channels, on one grid.
            case: the pseudonym under which an error names it.

        Raises:
            DataError: E_BRAIN when its brain is not found; E_SIZE when it would not fit into
                memory once resampled, or covers less than a voxel of the model; E_CONTRAST when a
                channel has one value everywhere once it is scaled and cropped.
        """
        source = (scan,) if isinstance(scan, Volume) else tuple(scan)
        check_resampled_size(source[0], self.preprocessing.spacing, case)
        part = clean(source, self.preprocessing, case)
        used = source if part is None else part.volumes
        prepared = self._centred(used, case) if self._aligner is None else self._aligned(used, case)
        return replace(prepared, source=source, part=part)

    def _centred(self, source: tuple[Volume, ...], case: str) -> PreparedScan:
        """About the centre of the scan, scaled by windows or percentiles."""
        grid, label_grid = self._grids
        data = np.stack([np.asarray(volume.data, dtype=np.float32) for volume in source])
        resampled, record = grid.resample(data, source[0].affine)
        scale = tuple(
            intensity_scale(one, self.preprocessing, name)
            for one, name in zip(resampled, self.preprocessing.channels, strict=True)
        )
        plain = torch.from_numpy(resampled)
        values = torch.stack([to(one) for to, one in zip(scale, plain, strict=True)])
        volume = torch.from_numpy(grid.crop(values.numpy())).float()
        for part in (values, volume):  # padding gives a constant scan an edge
            _require_contrast(part, self.preprocessing, case)
        if self.preprocessing.patches:
            volume[self._unseen(data, source[0].affine)] = math.nan
        placement = Centred(grid, label_grid, record, source[0].affine)
        return PreparedScan(volume, scale, source, placement)

    def _unseen(
        self, data: Float[np.ndarray, "C I J K"], affine: Float[np.ndarray, "4 4"]
    ) -> Bool[Tensor, "C X Y Z"]:
        """Where on the model's grid a channel is mixed with what was not seen of it."""
        fills = [self.preprocessing.unseen.get(name) for name in self.preprocessing.channels]
        unseen = np.stack([one == fill for one, fill in zip(data, fills, strict=True)])
        resampled, _ = self._grids[0].resample(unseen.astype(np.float32), affine)
        return torch.from_numpy(resampled) > _MIXED

    def _aligned(self, source: tuple[Volume, ...], case: str) -> PreparedScan:
        """Where its anatomy lies on the template, scaled by windows or landmarks."""
        assert self._aligner is not None
        template, grid = self._template, self.preprocessing
        alignment = self._aligner(registered(source[0], grid))
        scales, volumes, shading = [], [], np.zeros_like(template.mean)
        inside, unseen = template.inside, np.zeros(grid.shape, bool)
        for number, (volume, name) in enumerate(zip(source, grid.channels, strict=True)):
            plain = alignment.forward(volume.data)
            unseen = inside & ~np.isfinite(plain)  # the same for all channels
            scale = synthetic_scale(grid, name)
            if grid.intensity_of(name) == "mri":
                found = landmark_scale(plain, inside, template.landmarks[number])
                scale = found or scale
            values = scaled(plain, scale)
            if grid.intensity_of(name) == "mri":
                healthy = template.mean[number], template.floored_spread[number]
                values, shading[number] = without_shading(values, healthy, inside, grid.spacing)
            scales.append(scale)
            volumes.append(np.where(unseen, template.mean[number], values))
        prepared = torch.from_numpy(np.stack(volumes)).float().contiguous()
        _require_contrast(prepared, grid, case)
        return PreparedScan(
            prepared, tuple(scales), source, alignment, shading=shading,
            agreement=alignment.agreement, unseen=unseen,
        )  # fmt: skip


def require_aligned(scan: PreparedScan, preprocessing: Preprocessing, case: str) -> None:
    """Refuses a scan to learn from whose alignment has failed.

    A new scan is not refused: `anomaly.comparability` says that it is not comparable.

    Raises:
        DataError: E_ALIGN.
    """
    if scan.agreement is None:
        return
    if 1 - scan.agreement > _FAILED * (1 - preprocessing.known_template.agreement):
        raise DataError(
            "E_ALIGN", case, f"agrees with the template by {scan.agreement:.2f} only once aligned",
            "look at it: it may be cut, of another part of the body or of another contrast; or "
            "leave it out",
        )  # fmt: skip


def _require_contrast(
    scaled: Float[Tensor, "C X Y Z"], preprocessing: Preprocessing, case: str
) -> None:
    """Refuses a scan of which intensity scaling or cropping has left nothing.

    Raises:
        DataError: E_CONTRAST.
    """
    for name, channel in zip(preprocessing.channels, scaled, strict=True):
        if channel.min() < channel.max():  # False for NaN as well
            continue
        kind = "a scan and no mask"
        if preprocessing.intensity_of(name) == "ct":
            kind = "CT in HU and its tissue within data.window"
        raise DataError(
            "E_CONTRAST", case, "one value everywhere once it is scaled and cropped",
            f"check that it is {kind}, with the anatomy in the middle",
        )  # fmt: skip
