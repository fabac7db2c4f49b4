"""What scans are worth for telling two groups apart: a small network learns from some of them."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from medgan.core.seeding import seeded
from medgan.evaluation.probes.augmentation import Augmentation, unchanged
from medgan.evaluation.probes.two_sample import Judge

PEAK_RATE = 2e-3


class Verdicts(NamedTuple):
    """Figures of a classifier of two groups; group 1 is the rarer one.

    Attributes:
        balanced_accuracy: mean share of each group that is recognised.
        auroc: area under the ROC curve.
        minority_recall: share of group 1 that is recognised.
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
) -> nn.Module:
    """A small convolutional network that has learned to tell group 1 from group 0.

    Steps, not passes, are the length: a small and a large set get the same.

    Args:
        images: intensities in [-1, 1], on the device to use.
        groups: 0 or 1, both present.
        steps: of AdamW, the learning rate rising and falling once.
        seed: of weights, order and augmentation.
        batch: volumes a step.
        bf16: autocast of the network.
        augment: of every batch.
        weights: how often each volume is drawn, on the CPU; None is equally often.

    Returns:
        The network, in evaluation: volumes to logits of group 1.
    """
    device = images.device
    random = torch.Generator().manual_seed(seed)
    weights = torch.ones(len(groups), device="cpu") if weights is None else weights
    blank = torch.zeros(batch, *images.shape[2:], dtype=torch.long, device=device)
    with seeded(seed, device):
        network = Judge().to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=1e-2)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps)
        for _ in range(steps):
            chosen = torch.multinomial(weights, batch, replacement=True, generator=random)
            volume, _ = augment(images[chosen.to(device)], blank, random)
            volume = volume.contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = network(volume)
            truth = groups[chosen.to(device)].float()
            loss = F.binary_cross_entropy_with_logits(logits.float(), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    return network.eval()


@torch.no_grad()
def classify(
    network: nn.Module, images: Float[Tensor, "N 1 X Y Z"], batch: int = 16
) -> Float[Tensor, " N"]:
    """Probability of group 1, in fp32."""
    return torch.cat([network(part).sigmoid() for part in images.split(batch)])


def verdicts(probability: Float[np.ndarray, " N"], group: Float[np.ndarray, " N"]) -> Verdicts:
    """How well probabilities, cut at one half, go with the groups.

    Args:
        probability: of group 1.
        group: 0 or 1; a figure that needs both is not a number where one is missing.
    """
    from sklearn.metrics import roc_auc_score

    found = [(probability[group == g] > 0.5) == bool(g) for g in (0, 1)]
    recalls = [float(part.mean()) if len(part) else float("nan") for part in found]
    both = len(found[0]) and len(found[1])
    area = float(roc_auc_score(group, probability)) if both else float("nan")
    return Verdicts(float(np.mean(recalls)), area, recalls[1])
