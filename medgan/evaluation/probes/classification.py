"""Classification of two groups of scans by a small network."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from medgan.evaluation.probes.augmentation import Augmentation, unchanged
from medgan.evaluation.probes.fit import fit
from medgan.evaluation.probes.two_sample import Classifier


class ClassificationMetrics(NamedTuple):
    """Metrics of a classifier of two groups; group 1 is the rarer one.

    Attributes:
        balanced_accuracy: mean of the two groups' recalls.
        auroc: area under the ROC curve.
        minority_recall: recall of group 1.
    """

    balanced_accuracy: float
    auroc: float
    minority_recall: float


def train_classifier(
    images: Float[Tensor, "N 1 X Y Z"],
    groups: Int[Tensor, " N"],
    steps: int,
    seed: int,
    batch: int = 8,
    bf16: bool = True,
    augment: Augmentation = unchanged,
    weights: Float[Tensor, " N"] | None = None,
    network: nn.Module | None = None,
) -> nn.Module:
    """A small convolutional network trained to classify group 1 against group 0.

    Args:
        images: intensities in [-1, 1], on the device to use.
        groups: 0 or 1, both present.
        steps: training steps.
        seed: of weights, order and augmentation.
        batch: volumes a step.
        bf16: autocast of the network.
        augment: of every batch.
        weights: relative sampling frequency of each volume, on the CPU; None is uniform.
        network: to continue from, changed in place; None is a new one.

    Returns:
        The network, in evaluation: volumes to logits of group 1.
    """
    device = images.device
    random = torch.Generator().manual_seed(seed)
    weights = torch.ones(len(groups), device="cpu") if weights is None else weights
    blank = torch.zeros(batch, *images.shape[2:], dtype=torch.long, device=device)

    def build() -> nn.Module:
        return (network or Classifier()).to(device, memory_format=torch.channels_last_3d)  # pyright: ignore

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.multinomial(weights, batch, replacement=True, generator=random).to(device)
        volume, _ = augment(images[chosen], blank, random)
        return volume.contiguous(memory_format=torch.channels_last_3d), groups[chosen].float()

    loss = F.binary_cross_entropy_with_logits
    return fit(build, draw, loss, steps, seed, device, bf16=bf16)


@torch.no_grad()
def classify(
    network: nn.Module, images: Float[Tensor, "N 1 X Y Z"], batch: int = 16
) -> Float[Tensor, " N"]:
    """Probability of group 1, in fp32."""
    return torch.cat([network(part).sigmoid() for part in images.split(batch)])


def classification_metrics(
    probability: Float[np.ndarray, " N"], group: Float[np.ndarray, " N"]
) -> ClassificationMetrics:
    """Metrics of probabilities, with a threshold of one half where one is needed.

    Args:
        probability: of group 1.
        group: 0 or 1; a metric that needs both is NaN where one is missing.
    """
    from sklearn.metrics import roc_auc_score

    found = [(probability[group == g] > 0.5) == bool(g) for g in (0, 1)]
    recalls = [float(part.mean()) if len(part) else float("nan") for part in found]
    both = len(found[0]) and len(found[1])
    area = float(roc_auc_score(group, probability)) if both else float("nan")
    return ClassificationMetrics(float(np.mean(recalls)), area, recalls[1])
