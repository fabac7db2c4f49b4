"""Lesions drawn into healthy scans: where, and what they look like.

A mask comes from the library of shapes, from the caller, or with a lesion of a `LesionBank`. What
is drawn is a family of procedural change or what the bank has learned. Volumes have axes Right,
Anterior, Superior and are in [-1, 1]. The scan changes inside the mask and a margin around it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.core.intensity import IntensityScale
from medgan.core.volume import bounds
from medgan.data.lesion_bank import (
    SIZES,
    LesionBank,
    LesionExample,
    depths,
    surround_of,
    widened,
)
from medgan.data.lesions import FAMILIES, LesionSite
from medgan.data.shape_library import SHIPPED, LesionShape, read_shapes
from medgan.data.shapes import changed_tissue, draw_contrast, placed_mask
from medgan.data.tissue import Tissue, tissue_of

Array = Float[np.ndarray, "X Y Z"]
Mask = Bool[np.ndarray, "X Y Z"]
Whole = Bool[np.ndarray, "I J K"]
"""A mask of a whole scan, beside a box of it."""
Box = tuple[slice, slice, slice]
Place = Literal["own", "random"]
TISSUE = {"dark shape": False, "bright shape": True}
"""Families that make tissue darker or brighter, fluid and air excepted, by whether it is bright."""
_PLACES = 16
"""Places that are compared for a pasted lesion."""
_TRIES = 12
_MOST_LOST = 0.3
"""Largest share of a pasted lesion that may lie beyond the scan or in another lesion."""
_JITTER = 0.02
"""Spread of a lesion's own place, as a share of the tissue."""


@dataclass(frozen=True)
class DrawnLesion:
    """A lesion for one scan.

    Attributes:
        box: around all that changes.
        appearance: (x, y, z) of the box, the scan as it would be, in [-1, 1].
        alpha: of the box: 1 in the mask, falling to 0 over the margin.
        mask: of the whole scan.
        kind: the family, or whose lesion it is like.
    """

    box: Box
    appearance: Array
    alpha: Array
    mask: Whole
    kind: str

    def onto(self, volume: Array, native: Array, scale: IntensityScale | None = None) -> Array:
        """The scan with the lesion, equal to the bit wherever alpha is 0.

        Args:
            volume: the scan in [-1, 1].
            native: the same in its own intensities.
            scale: from those to [-1, 1]; None where they are the same.
        """
        old, wanted = native[self.box], self.appearance
        if scale is not None:
            # What did not change keeps what lies beyond the scale.
            wanted = np.where(wanted == volume[self.box], old, scale.back(wanted))
        return self.blended(native, wanted)

    def blended(self, native: Array, wanted: Float[np.ndarray, "x y z"]) -> Array:
        """Other voxels in the box, equal to the bit wherever alpha is 0.

        Args:
            native: the whole scan.
            wanted: (x, y, z) of the box.
        """
        drawn, old = native.copy(), native[self.box]
        drawn[self.box] = np.where(self.alpha > 0, old + self.alpha * (wanted - old), old)
        return drawn


@dataclass(frozen=True)
class LesionDrawing:
    """How lesions are drawn.

    Attributes:
        shapes: library of masks; empty where masks are given or come with lesions of the bank.
        bank: what lesions look like; None draws one of the families.
        families: of `lesions.FAMILIES` and `TISSUE`.
        strength: range of a factor on what a lesion changes; 1 is as strong as the examples.
        margin: in mm, over which a lesion fades into the scan.
        place: where a shape or an example lay in the patient, or anywhere: an example goes to the
            place whose surround is most like its own.
        sizes: range of a factor on the size of an example that is pasted.
    """

    shapes: tuple[LesionShape, ...] = ()
    bank: LesionBank | None = None
    families: tuple[str, ...] = tuple(TISSUE)
    strength: tuple[float, float] = (0.8, 1.2)
    margin: float = 3.0
    place: Place = "own"
    sizes: tuple[float, float] = SIZES

    def __post_init__(self) -> None:
        unknown = sorted(set(self.families) - {*FAMILIES, *TISSUE})
        if unknown or not (self.families or self.bank):
            raise DataError(
                "E_LESION", f"families {', '.join(unknown) or 'none'}", "cannot be drawn",
                f"choose among {', '.join((*TISSUE, *FAMILIES))}",
            )  # fmt: skip

    @classmethod
    def shipped(cls, families: tuple[str, ...] = tuple(TISSUE)) -> "LesionDrawing":
        """Shapes of the strokes that come with medgan, for brains.

        Args:
            families: of changes.
        """
        return cls(read_shapes(SHIPPED), families=families)

    def __call__(
        self,
        volume: Array,
        spacing: Sequence[float],
        rng: np.random.Generator,
        given: Mask | None = None,
        taken: Mask | None = None,
    ) -> DrawnLesion:
        """Draws one lesion for a scan.

        Args:
            volume: the scan.
            spacing: in mm.
            rng: source of all random numbers.
            given: the mask to draw; None takes one of the shapes, without any of the bank.
            taken: where lesions are already.

        Raises:
            DataError: E_LESION where no lesion fits.
        """
        strength = float(rng.uniform(*self.strength))
        if given is None and not self.shapes:
            return self._pasted(volume, spacing, strength, rng, taken)
        tissue = None
        if given is None:
            tissue = tissue_of(volume)
            given = self._shape(tissue, rng)
        if not given.any():
            raise DataError("E_LESION", "the mask", "is empty", "give masks of lesions")
        if self.bank is None:
            return self._of_family(volume, given, spacing, strength, rng, tissue)
        box = widened(bounds(given), spacing, self.margin, volume.shape)
        example = self.bank.of_size(given.sum() * np.prod(spacing), rng)
        surround = surround_of(volume, given, spacing, self.margin)
        values = example.inside(given[box], spacing, rng)
        values = self._fitted(values, example, surround, strength)
        return _drawn(box, values, given, spacing, self.margin, _kind(example))

    def _shape(self, tissue: Tissue, rng: np.random.Generator) -> Whole:
        """A mask of the library; not every one fits into every scan."""
        for _ in range(_TRIES):
            shape = self.shapes[int(rng.integers(len(self.shapes)))]
            with suppress(DataError):
                return placed_mask(shape, tissue, rng, self.place)
        raise DataError(
            "E_LESION", "the scan", "no mask of the library fits into its tissue",
            "use smaller masks, draw.place=random, or scans with more tissue",
        )  # fmt: skip

    def _of_family(
        self,
        volume: Array,
        mask: Mask,
        spacing: Sequence[float],
        strength: float,
        rng: np.random.Generator,
        tissue: Tissue | None,
    ) -> DrawnLesion:
        family = self.families[int(rng.integers(len(self.families)))]
        inner = widened(bounds(mask), spacing, self.margin, volume.shape)
        # Families copy from outside of the mask: half as wide again as it is.
        extent = max((s.stop - s.start) * mm for s, mm in zip(inner, spacing, strict=True))
        box = widened(inner, spacing, extent / 2, volume.shape)
        weight = ndimage.gaussian_filter(mask[box].astype(np.float32), 0.5)
        if family in TISSUE:
            tissue = tissue or tissue_of(volume)
            contrast = strength * draw_contrast(rng, TISSUE[family])
            changed, _ = changed_tissue(
                volume[box], weight * tissue.share[box], contrast, tissue, rng, patchy=False
            )
        else:
            changed = FAMILIES[family](_site(volume, box, mask[box], weight, strength, rng))
        return _drawn(box, changed.clip(-1, 1), mask, spacing, self.margin, family)

    def _pasted(
        self,
        volume: Array,
        spacing: Sequence[float],
        strength: float,
        rng: np.random.Generator,
        taken: Mask | None,
    ) -> DrawnLesion:
        """A lesion of the bank with its own mask."""
        assert self.bank is not None, "without shapes and masks there is a bank"
        inside = volume > -1
        corners = bounds(inside)
        low = np.array([side.start for side in corners])
        extent = np.array([side.stop - side.start for side in corners])
        voxels = np.argwhere(inside)
        for _ in range(_TRIES if len(voxels) else 0):
            example = self.bank.draw(rng)
            values, mask = example.varied(spacing, rng, self.sizes)
            if self.place == "own":
                centres = low + (np.array(example.centre) + rng.normal(0, _JITTER, (1, 3))) * extent
            else:
                centres = voxels[rng.integers(len(voxels), size=_PLACES)]
            found = []
            for centre in centres:
                box, part = _overlap(centre, mask.shape, volume.shape)
                own = mask[part] & inside[box]
                own &= True if taken is None else ~taken[box]
                if own.sum() > max(0, (1 - _MOST_LOST) * mask.sum()):
                    surround = surround_of(volume[box], own, spacing, self.margin / 2)
                    found.append((abs(surround - example.surround), surround, box, part, own))
            if found:
                _, surround, box, part, own = min(found, key=lambda one: one[0])
                where = np.zeros(volume.shape, bool)
                where[box] = own
                fitted = self._fitted(values[part], example, surround, strength)
                margin = min(self.margin, self.sizes[0] * example.margin)  # what the rim reaches
                return _drawn(box, fitted, where, spacing, margin, _kind(example))
        raise DataError(
            "E_LESION", "the scan", "no lesion of the examples fits into it",
            "use scans with more tissue, or examples of smaller lesions",
        )  # fmt: skip

    def _fitted(
        self, values: Array, example: LesionExample, surround: float, strength: float
    ) -> Array:
        """Values of an example as they would be in another surround."""
        assert self.bank is not None, "examples are of a bank"
        level = example.surround
        shift = surround - level if self.bank.relative else 0.0
        return (level + strength * (values - level) + shift).clip(-1, 1).astype(np.float32)


def _kind(example: LesionExample) -> str:
    return f"example of {example.source}" if example.source else "example"


def _drawn(
    box: Box, appearance: Array, mask: Whole, spacing: Sequence[float], margin: float, kind: str
) -> DrawnLesion:
    _, outside = depths(mask[box], spacing)
    share = (1 - outside / margin).clip(0, 1)
    alpha = (share * share * (3 - 2 * share)).astype(np.float32)
    return DrawnLesion(box, appearance.astype(np.float32), alpha, mask, kind)


def _site(
    volume: Float[np.ndarray, "I J K"],
    box: Box,
    mask: Mask,
    weight: Array,
    strength: float,
    rng: np.random.Generator,
) -> LesionSite:
    """A mask as the families of lesions see it; foreign tissue is that of the other side."""
    centre = np.argwhere(mask).mean(axis=0).astype(np.float32)
    offset = np.asarray(np.indices(mask.shape, np.float32)) - centre[:, None, None, None]
    radius = float(np.linalg.norm(offset, axis=0)[mask].max()) + 1
    dark = float(np.quantile(volume[::2, ::2, ::2], 0.05))
    return LesionSite(volume[box], volume[::-1][box], dark, offset, radius, weight, strength, rng)


def _overlap(centre: np.ndarray, size: Sequence[int], shape: Sequence[int]) -> tuple[Box, Box]:
    """Where a patch lies in a volume, and which part of the patch that is."""
    boxes, parts = [], []
    for c, n, limit in zip(centre, size, shape, strict=True):
        start = round(float(c)) - n // 2
        first, last = max(0, start), min(limit, start + n)
        last = max(first, last)
        boxes.append(slice(first, last))
        parts.append(slice(first - start, last - start))
    (x, y, z), (a, b, c) = boxes, parts
    return (x, y, z), (a, b, c)
