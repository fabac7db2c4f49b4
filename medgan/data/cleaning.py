"""Scans of whole heads without their skull and bias field, cut to the brain."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from medgan.core.config import Preprocessing
from medgan.core.volume import Volume, bounds
from medgan.data.bias import without_bias
from medgan.data.brain.mask import brain_mask, brain_share, filled, largest

log = logging.getLogger(__name__)
_STRIPPED = 0.2
"""Share of voxels with one and the same value from which a background counts as masked out."""
_STRIPPED_ML = 2100.0
"""Volume up to which all that is left can be a brain; it was 1,080 to 1,850 ml in 150 stripped
adults, and a head without its neck has more than 3,000 ml."""
_BRAIN_SHARE = 0.75
"""Share of it that must look like brain, since a child's head and a few slices are as small: it was
0.82 to 0.98 in stripped scans, and 0.38 to 0.69 where scalp was left."""
_RIM_MM = 5.0
"""Background that is kept around the brain."""
_BLACK = 0.005
"""Quantile of a head that its surroundings get; the minimum may be a single wrong voxel."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class CleanScan:
    """The part of a scan that networks are to see.

    Attributes:
        volumes: of each channel, cut to the box.
        box: where they lie in the grid of the scan.
        shape: of that grid.
        brain: where in the box the brain is; None where it was not looked for.
    """

    volumes: tuple[Volume, ...]
    box: Box
    shape: tuple[int, ...]
    brain: Bool[np.ndarray, "X Y Z"] | None = None

    def cut(self, volume: Volume) -> Volume:
        """What lies in the box of a volume on the scan's grid."""
        return _cut(volume, self.box)

    def embed(self, data: np.ndarray, outside: float) -> np.ndarray:
        """Voxels of the box in the scan's grid, `outside` around them."""
        whole = np.full(self.shape, outside, dtype=data.dtype)
        whole[self.box] = data
        return whole

    def counterpart(self, recon: np.ndarray, scan: np.ndarray, channel: int) -> np.ndarray:
        """The whole scan with a healthy brain in place of its own, under its own bias field.

        Args:
            recon: voxels of the box; NaN where there is none.
            scan: all voxels of the channel.
            channel: its number.
        """
        difference = recon - self.volumes[channel].data
        known = np.isfinite(difference) if self.brain is None else self.brain & np.isfinite(recon)
        whole = np.array(scan, np.float32)
        whole[self.box] += np.where(known, difference, 0)
        return whole


def clean(source: Sequence[Volume], preprocessing: Preprocessing, case: str) -> CleanScan | None:
    """The scan without skull and bias field as the settings ask for; None if they ask for neither.

    A scan whose background is masked out already, with no more left than a brain, is only cut.
    The brain is found in the first channel that has T1 in its name, or else in the first MRI.

    Args:
        source: the checked channels, on one grid.
        preprocessing: the model's.
        case: the pseudonym under which an error names it.

    Raises:
        DataError: E_BRAIN.
    """
    if preprocessing.brain == preprocessing.bias == "none":
        return None
    names = preprocessing.channels
    mri = [n for n, name in enumerate(names) if preprocessing.intensity_of(name) == "mri"]
    guide = source[next((n for n in mri if "t1" in names[n].lower()), mri[0])]
    volumes = list(source)
    box: Box = (slice(None), slice(None), slice(None))
    if preprocessing.brain == "none":
        mask = _foreground(guide.data)
    else:
        mask = _stripped(guide)
        if mask is not None:
            log.debug("%s: its skull is stripped already", case)
        else:
            mask = brain_mask(guide, case)
            volumes = [one.like(_masked(one.data, mask)) for one in source]
        box = _around(mask, guide.spacing)
    inside = mask[box]
    parts = [_cut(volume, box) for volume in volumes]
    if preprocessing.bias == "n4":
        for number in mri:
            parts[number] = parts[number].like(without_bias(parts[number], inside))
    brain = None if preprocessing.brain == "none" else inside
    return CleanScan(tuple(parts), box, guide.data.shape, brain)


def _foreground(data: np.ndarray) -> Bool[np.ndarray, "X Y Z"]:
    from skimage.filters import threshold_otsu

    return data > threshold_otsu(data)


def _stripped(scan: Volume) -> Bool[np.ndarray, "X Y Z"] | None:
    """The brain of a scan that holds nothing else, or None."""
    # A sample knows the commonest value; sorting all voxels takes seconds.
    sample = scan.data[::2, ::2, ::2]
    values, counts = np.unique(sample, return_counts=True)
    left = scan.data != values[counts.argmax()]
    if left.mean() > 1 - _STRIPPED:
        return None
    brain = filled(largest(left))
    ml = float(brain.sum() * np.prod(scan.spacing)) / 1000
    return brain if ml <= _STRIPPED_ML and brain_share(scan, brain) > _BRAIN_SHARE else None


def _masked(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    some = data[::2, ::2, ::2]  # sorting all voxels takes seconds
    return np.where(mask, data, np.quantile(some, _BLACK).astype(data.dtype))


def _around(mask: np.ndarray, spacing: Sequence[float]) -> Box:
    rims = [int(np.ceil(_RIM_MM / mm)) for mm in spacing]
    x, y, z = (
        slice(max(0, at.start - rim), min(size, at.stop + rim))
        for at, rim, size in zip(bounds(mask), rims, mask.shape, strict=True)
    )
    return x, y, z


def _cut(volume: Volume, box: Box) -> Volume:
    affine = np.array(volume.affine)
    affine[:3, 3] += affine[:3, :3] @ [one.start or 0 for one in box]
    return Volume(volume.data[box], affine)
