"""Segmentation of scans of another contrast as a task of a utility study."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.config import Preprocessing, UtilityConfig
from medgan.data.manifest import Case
from medgan.evaluation.probes.augmentation import classical, moved
from medgan.evaluation.probes.contrast import (
    biased,
    drawn,
    raised,
    recontrasted,
    scanned,
    sliced,
    tissues,
)
from medgan.evaluation.probes.segmentation import dice_of_scans, train_segmenter
from medgan.studies.utility.segmentation import Segmentation
from medgan.studies.utility.task import Arm, Examples, Metric, join

Image = Float[np.ndarray, "X Y Z"]
Change = Callable[[Image, np.random.Generator], Image]
CHANGES: dict[str, Change] = {
    "unchanged": lambda image, rng: image,
    "inverted": lambda image, rng: -image,
    "folded": lambda image, rng: 1 - 2 * np.abs(image - np.median(image)).clip(0, 1),
    "gamma 1/3": lambda image, rng: raised(image, 1 / 3),
    "gamma 3": lambda image, rng: raised(image, 3.0),
    "bias field": lambda image, rng: biased(image, 0.5, rng),
    "thick slices": lambda image, rng: sliced(image, int(rng.integers(3)), 5.0),
    "noise": lambda image, rng: image + 0.25 * rng.standard_normal(image.shape),
}
"""What is done to test scans."""
_DRAWN = 1000
"""Added to the numbers of tissues in maps from which images are drawn: 1000 for each class."""


class Contrast(Segmentation):
    """A U-Net is trained to segment, and tested on scans whose contrast was changed."""

    def __init__(
        self, cases: Sequence[Case], preprocessing: Preprocessing, settings: UtilityConfig
    ) -> None:
        super().__init__(cases, preprocessing, settings)

        def mean(columns: slice) -> Metric:
            return Metric(lambda rows: float(np.nanmean(rows[:, columns])))

        self.metrics: Mapping[str, Metric] = {
            "Dice": mean(slice(None)),
            **{name: mean(slice(n, n + 1)) for n, name in enumerate(CHANGES)},
        }

    def train(self, parts: Sequence[Examples], arm: Arm, seed: int) -> nn.Module:
        """As `Task.train`; scans as they are and maps to draw from are seen equally often."""
        given = [] if arm.appearance and not arm.strong else [parts[0]]
        if arm.appearance:
            given += [_to_draw(part, seed) for part in parts]
        most = max(len(part.images) for part in given)
        given = [part for part in given for _ in range(round(most / len(part.images)))]
        changes = arm.strong or arm.appearance
        augment = partial(varied, curves=arm.curves) if changes else classical
        return train_segmenter(
            *join(given), self._count, self._settings.steps, seed, augment=augment, bf16=False
        )

    def measure(self, network: nn.Module, test: Examples) -> Float[np.ndarray, "N K"]:
        """Mean Dice of the labels, for each test scan under each change."""
        found = []
        for number, change in enumerate(CHANGES.values()):
            images = changed(test.images, change, number)
            dice = dice_of_scans(self.predict(network, images), test.targets, self._count)
            found.append(dice.nanmean(dim=1).cpu())
        return torch.stack(found, dim=1).numpy()


def changed(images: Float[Tensor, "N 1 X Y Z"], change: Change, seed: int) -> Tensor:
    """Scans under a change, the same at every call."""
    made = [
        change(image, np.random.default_rng([seed, number])).clip(-1, 1)
        for number, image in enumerate(images[:, 0].cpu().numpy())
    ]
    return torch.from_numpy(np.stack(made)).to(images)[:, None]


def _to_draw(part: Examples, seed: int) -> Examples:
    """Scans with maps of their tissues in place of their classes."""
    maps = [
        torch.from_numpy(tissues(image[0], seed) + _DRAWN * (1 + classes))
        for image, classes in zip(
            part.images.cpu().numpy(), part.targets.cpu().numpy(), strict=True
        )
    ]
    return Examples(part.images, torch.stack(maps).to(part.targets))


def varied(
    images: Tensor, maps: Tensor, random: torch.Generator, curves: bool = True
) -> tuple[Tensor, Tensor]:
    """A batch moved and seen under random contrasts.

    Args:
        images: (B, 1, X, Y, Z) in [-1, 1].
        maps: (B, X, Y, Z), classes; or tissues as `_to_draw` gives them, from which another image
            is drawn in place of the given one.
        random: on the CPU.
        curves: whether contrasts of scans also follow random curves.

    Returns:
        Images and classes.
    """
    images, maps = moved(images, maps, random)
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=random)))
    made = []
    for image, parts in zip(images[:, 0].cpu().numpy(), maps.cpu().numpy(), strict=True):
        draws = parts.max() >= _DRAWN
        seen = drawn(image, parts % _DRAWN, rng) if draws else recontrasted(image, rng, curves)
        made.append(torch.from_numpy(scanned(seen, rng)))
    classes = torch.where(maps >= _DRAWN, maps // _DRAWN - 1, maps)
    return torch.stack(made)[:, None].to(images), classes
