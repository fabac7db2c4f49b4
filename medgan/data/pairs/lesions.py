"""Lesions: a real lesion is made of a coarse drawing of it in the healed scan."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError, DataError
from medgan.data.healing import without_lesions
from medgan.data.lesion_bank import LabelledScan, LesionBank, depths
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.pairs.pair import Pair, Patch

MARGIN = 3.0
"""Width of the rim around a lesion that is learned with it, in mm."""
_STRENGTH = (0.95, 1.05)


@dataclass(frozen=True)
class Lesions:
    """Labelled lesions, taken out of their scans and drawn again with their profile and texture.

    Patches are mirrored along random axes. A source is the scan with the coarse drawing and, as a
    second channel, 1 in the mask and -1 elsewhere; lesion and rim alone are learned.

    Attributes:
        spacing: of the grid in mm.
        relative: whether the drawing keeps its difference from the surround, as in MRI.
    """

    spacing: tuple[float, float, float]
    relative: bool

    @classmethod
    def of(cls, preprocessing: Preprocessing, conversion: Conversion) -> "Lesions":
        """The pairing of a model.

        Raises:
            ConfigError: E_VALUE for scans of several channels or without labels.
        """
        if len(preprocessing.channels) > 1 or not preprocessing.labels:
            raise ConfigError(
                "E_VALUE", "train.task", "lesions need one channel and masks as label maps",
                "choose a channel, and scans with masks of lesions",
            )  # fmt: skip
        return cls(preprocessing.spacing, not preprocessing.holds_ct)

    @property
    def source_channels(self) -> int:
        """The scan and the mask."""
        return 2

    @property
    def target_channels(self) -> int:
        """The scan."""
        return 1

    @property
    def residual(self) -> bool:
        """Yes: the drawing is changed a little."""
        return True

    def __call__(
        self, volume: Patch, label: Int[np.ndarray, "X Y Z"] | None, rng: np.random.Generator
    ) -> Pair:
        """A pair to learn from; one without a lesion has no weight."""
        mask = np.zeros(volume.shape[1:], bool) if label is None else label > 0
        mirror = tuple(slice(None, None, int(step)) for step in rng.choice((-1, 1), 3))
        seen = np.isfinite(volume[0])[mirror]
        scan, mask = np.nan_to_num(volume[0], nan=-1)[mirror], mask[mirror] & seen
        coarse, weight = scan, np.zeros_like(scan)
        try:
            bank = LesionBank.learn([LabelledScan(scan, mask, self.spacing)], self.relative, MARGIN)
        except DataError:  # no lesion here
            pass
        else:
            coarse = self.drawn(scan, mask, mask, bank, rng)
            weight = (seen & (depths(mask, self.spacing)[1] < MARGIN)).astype(np.float32)
        target = np.ascontiguousarray(scan, np.float32)[None]
        return Pair(self.source(np.stack([coarse, 2.0 * mask - 1])), target, weight[None])

    def drawn(
        self,
        scan: Float[np.ndarray, "X Y Z"],
        old: Bool[np.ndarray, "X Y Z"],
        mask: Bool[np.ndarray, "X Y Z"],
        bank: LesionBank,
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "X Y Z"]:
        """A coarse lesion of the bank in a mask of a scan, whose own lesions are taken out.

        Args:
            scan: in [-1, 1].
            old: its lesions.
            mask: of the new one.
            bank: what lesions look like.
            rng: source of the appearance.
        """
        healed = without_lesions(scan, old, self.spacing, MARGIN)
        drawing = LesionDrawing((), bank, strength=_STRENGTH, margin=MARGIN)
        return drawing(healed, self.spacing, rng, mask).onto(healed, healed)

    def source(self, volume: Patch) -> Float[np.ndarray, "S X Y Z"]:
        """A drawing and its mask, black where nothing was seen."""
        return np.nan_to_num(volume, nan=-1).astype(np.float32)
