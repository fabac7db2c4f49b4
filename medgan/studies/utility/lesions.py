"""Lesions of a few labelled scans, drawn into other scans, as synthetic scans of a study."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from medgan.core.config import Config, Preprocessing
from medgan.core.errors import DataError
from medgan.data.healing import without_lesions
from medgan.data.lesion_bank import SIZES, LabelledScan, LesionBank
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.pairs.lesions import MARGIN, Lesions
from medgan.data.prepared import stored
from medgan.evaluation.probes.classification import classify, train_classifier
from medgan.evaluation.probes.segmentation import dice_of_scans, segment
from medgan.model.answer import answer
from medgan.model.model import Model
from medgan.studies.utility.task import Examples

KEPT = 0.5
"""Share of the candidates that filters keep."""
_TRIES = 20
"""Candidates for each wanted scan before drawing is given up."""
_JUDGE_STEPS = 100


def refining(config: Config) -> Config:
    """The settings of a study as those of a model that refines lesions."""
    learned = {"task": "lesions", "metric": "translation", "precision": "fp32"}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=learned),
            "data": config.data.model_copy(update={"patches": True, "conditions": {}}),
        }
    )


@dataclass(frozen=True)
class DrawnLesions:
    """Draws lesions of labelled scans into others whose own lesions are taken out.

    Attributes:
        real: the labelled scans.
        images: (N, 1, X, Y, Z), scans to draw into.
        masks: (N, X, Y, Z), above 0 where their lesions are.
        preprocessing: the grid.
        model: that refines the drawings; None pastes lesions as they are.
        sizes: range of a factor on the size of lesions.
        other: what is drawn in place of lesions like the real ones.
    """

    real: Examples
    images: Tensor
    masks: Tensor
    preprocessing: Preprocessing
    model: Model | None
    sizes: tuple[float, float] = SIZES
    other: LesionDrawing | None = None

    @cached_property
    def _bank(self) -> LesionBank:
        images, masks = (part.cpu().numpy() for part in self.real)
        spacing, relative = self.preprocessing.spacing, not self.preprocessing.holds_ct
        pairs = zip(images, masks, strict=True)
        scans = (LabelledScan(image[0], mask > 0, spacing) for image, mask in pairs)
        return LesionBank.learn(scans, relative, MARGIN)

    def draw(self, count: int, seed: int) -> Examples:
        """Scans with one lesion each.

        Raises:
            DataError: E_LESION where hardly any lesion fits.
        """
        rng = np.random.default_rng([seed, 3])
        images, masks = self.images.cpu().numpy(), self.masks.cpu().numpy() > 0
        made: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(_TRIES * count):
            if len(made) == count:
                break
            number = int(rng.integers(len(images)))
            try:
                made.append(self._one(images[number, 0], masks[number], rng))
            except DataError:
                continue
        if len(made) < count:
            raise DataError(
                "E_LESION", f"{count} scans with lesions", f"only {len(made)} could be drawn",
                "use a larger data.shape",
            )  # fmt: skip
        drawn, where = (np.stack(part) for part in zip(*made, strict=True))
        return Examples(stored(torch.from_numpy(drawn)[:, None]), torch.from_numpy(where).long())

    def _one(
        self, scan: np.ndarray, own: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        spacing, model = self.preprocessing.spacing, self.model
        healed = without_lesions(scan, own, spacing, MARGIN)
        drawing = self.other or LesionDrawing(bank=self._bank, margin=MARGIN, sizes=self.sizes)
        lesion = drawing(healed, spacing, rng)
        if model is None:
            return lesion.onto(healed, healed), lesion.mask
        lesion = drawing(healed, spacing, rng, lesion.mask)
        coarse = lesion.onto(healed, healed)
        pairing = Lesions(spacing, self._bank.relative)
        source = pairing.source(np.stack([coarse, 2.0 * lesion.mask - 1]))
        refined = answer(model, source, int(rng.integers(2**31)), 0)[0]
        return lesion.blended(healed, refined[lesion.box]), lesion.mask


def best(drawn: Examples, real: Tensor, segmenter: nn.Module, share: float, seed: int) -> Examples:
    """The drawn scans that pass a segmenter and a real-or-fake judge best.

    Each ranks the candidates: by the Dice of its segmentation with the mask, and by how real they
    look to a classifier of real and drawn scans. The mean of the two ranks decides.

    Args:
        drawn: candidates.
        real: (N, 1, X, Y, Z), real scans for the judge.
        segmenter: trained on real scans.
        share: to keep.
        seed: of the judge.
    """
    images = drawn.images.to(real.device)
    found = segment(segmenter, images)
    dice = dice_of_scans(found, drawn.targets.to(real.device), 1)[:, 0].nan_to_num(0)
    groups = torch.arange(len(images) + len(real), device=real.device).ge(len(images)).long()
    judge = train_classifier(
        torch.cat([images, real]), groups, _JUDGE_STEPS, seed, bf16=False,
        weights=1 / torch.bincount(groups.cpu())[groups.cpu()],
    )  # fmt: skip
    ranks = dice.argsort().argsort() + classify(judge, images).argsort().argsort()
    kept = ranks.argsort(descending=True)[: round(share * len(images))].cpu()
    return Examples(drawn.images[kept], drawn.targets[kept])
