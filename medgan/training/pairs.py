"""What the second discriminator of a synthesis judges: a volume with its labels or a neighbour."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from medgan.core.config import ModelConfig, Preprocessing
from medgan.data.batches import Batch
from medgan.data.codebook import channels
from medgan.model.fresh_networks import seen_width, stages
from medgan.networks.discriminator import Discriminator
from medgan.training.neighbours import CODE


def pair_discriminator(grid: Preprocessing, sizes: ModelConfig, in_time: bool) -> Discriminator:
    """A smaller discriminator of pairs, weights drawn from torch's global generator.

    Args:
        grid: of the model.
        sizes: of its networks.
        in_time: whether it sees two neighbours and the time of each, in place of labels.
    """
    images = len(grid.channels)
    narrow = replace(
        stages(grid, sizes), stem_channels=0, stem_blocks=0, blocks=1,
        widths=tuple(max(8, w // 2) for w in sizes.widths),
    )  # fmt: skip
    if not in_time:
        return Discriminator(grid.shape, images + channels(grid.labels), narrow, seen_width(grid))
    narrow = replace(narrow, windows=tuple(narrow.windows) * 2)
    return Discriminator(grid.shape, 2 * images, narrow, seen_width(grid) + CODE)


class Pairs(NamedTuple):
    """Real pairs of a batch.

    Attributes:
        chosen: (B,), which scans have one.
        real: (B, C, X, Y, Z), the volume of each and, behind it, its labels or its neighbour.
        condition: (B, D), of both.
        images: how many of the channels are no labels.
    """

    chosen: Tensor
    real: Tensor
    condition: Tensor
    images: int


def pairs(batch: Batch) -> Pairs:
    """Volumes beside their neighbours where a batch has such, else beside their labels."""
    images = batch.volume.shape[1]
    if "next_condition" not in batch.tensors:
        real = torch.cat([batch.volume, batch.labels], dim=1)
        return Pairs(batch.labelled, real, batch.condition, images)
    real = torch.cat([batch.volume, batch["next"]], dim=1)
    return Pairs(batch["paired"], real, batch["pair_condition"], 2 * images)
