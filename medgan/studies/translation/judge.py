"""A judge that tells real from translated images, beside their sources."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.evaluation.probes.fit import fit
from medgan.evaluation.probes.two_sample import Classifier, auroc

EDGE, PATCHES = 16, 48
"""Voxels along an axis of what the judge sees, and patches of a patient."""
FOLDS, STEPS, BATCH = 3, 200, 16


class Judged(NamedTuple):
    """One patient.

    Attributes:
        source, real, drawn: (C, X, Y, Z) in [-1, 1]: what was given, and its targets.
        region: (X, Y, Z), where real and drawn are compared; elsewhere both are shown as -1.
    """

    source: np.ndarray
    real: np.ndarray
    drawn: np.ndarray
    region: np.ndarray


def judge(patients: Sequence[Judged], seed: int = 0, steps: int = STEPS) -> list[float]:
    """Of each patient the AUROC of a classifier that learned from other patients.

    It sees patches of a source beside its real or its translated target. 0.5 is best: it finds no
    difference.

    Args:
        patients: none that the translation was trained on; at least one a fold.
        seed: of patches, weights and order.
        steps: training steps of a classifier.

    Reference: Lopez-Paz and Oquab 2017, arXiv 1610.06545 (classifier two-sample test); Isola et
        al. 2017, arXiv 1611.07004 (a judge that sees the source as well).
    """
    random = np.random.default_rng(seed)
    drawn = [_patches(one, random) for one in patients]
    found = [0.0] * len(patients)
    for fold in range(FOLDS):
        tested = range(fold, len(patients), FOLDS)
        others = [pair for number, pair in enumerate(drawn) if number % FOLDS != fold]
        real, fake = (torch.cat(side) for side in zip(*others, strict=True))
        classifier = _trained(real, fake, seed + fold, steps)
        for number in tested:
            found[number] = auroc(*(_logits(classifier, side) for side in drawn[number]))
    return found


def _trained(real: Tensor, fake: Tensor, seed: int, steps: int) -> nn.Module:
    """Half of each batch is real, and the other half translated at the same places."""
    order = torch.Generator().manual_seed(seed)
    target = (torch.arange(BATCH, device="cpu") < BATCH // 2).float()

    def draw() -> tuple[Tensor, Tensor]:
        at = torch.randint(len(real), (BATCH // 2,), generator=order)
        both = torch.cat([real[at], fake[at]])
        return both.contiguous(memory_format=torch.channels_last_3d), target

    def build() -> nn.Module:
        network = Classifier(real.shape[1])
        return network.to(memory_format=torch.channels_last_3d)  # pyright: ignore

    loss = F.binary_cross_entropy_with_logits
    return fit(build, draw, loss, steps, seed, torch.device("cpu"))


@torch.no_grad()
def _logits(classifier: nn.Module, patches: Tensor) -> Tensor:
    return torch.cat([classifier(part) for part in patches.split(BATCH)])


def _patches(one: Judged, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Real and translated patches about voxels of the region, with their sources."""
    size = [min(EDGE, n) for n in one.region.shape]
    centres = np.argwhere(one.region)
    centres = centres[random.integers(0, len(centres), PATCHES)]
    starts = (centres - np.array(size) // 2).clip(0, np.array(one.region.shape) - size)
    sides = []
    for target in (one.real, one.drawn):
        shown = np.concatenate([np.where(one.region, target, -1), one.source]).astype(np.float32)
        # A scan thinner than a patch is padded, so that patches of all scans are alike.
        pad = [(0, 0), *((0, EDGE - n) for n in size)]
        cut = [
            np.pad(shown[:, x : x + size[0], y : y + size[1], z : z + size[2]], pad,
                   constant_values=-1)
            for x, y, z in starts.tolist()
        ]  # fmt: skip
        sides.append(torch.from_numpy(np.stack(cut)))
    return sides[0], sides[1]
