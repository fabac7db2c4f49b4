"""The training scans that are nearest to synthetic ones. Tensors in, numbers out."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medgan.evaluation.privacy.copies import mask_same_subject, similarity


class Neighbours(NamedTuple):
    """The nearest training scans of each synthetic scan, and how near training scans are.

    Attributes:
        numbers: (N, K), of training scans, the nearest first.
        similarities: (N, K), to these.
        among: (M,), of each training scan to the nearest one of another subject.
    """

    numbers: Int[Tensor, "N K"]
    similarities: Float[Tensor, "N K"]
    among: Float[Tensor, " M"]

    def share_as_near(self, row: int) -> float:
        """The share of training scans whose nearest other one is at least as near as this one's.

        0 where a synthetic scan is nearer to a training scan than any two subjects are.
        """
        return float((self.among >= self.similarities[row, 0]).float().mean())


def nearest_scans(
    fakes: Float[Tensor, "N 1 X Y Z"],
    training: Float[Tensor, "M 1 X Y Z"],
    subject: Int[Tensor, " M"],
    most: int = 3,
) -> Neighbours:
    """The nearest training scans by the similarity of the privacy audit.

    Args:
        fakes: synthetic scans, intensities in [-1, 1].
        training: training scans on the same grid.
        subject: number of the subject of each.
        most: how many of each synthetic scan.
    """
    found = similarity(torch.cat([training, fakes]), training)
    between, to_training = found[: len(training)], found[len(training) :]
    among = mask_same_subject(between, subject, subject).max(dim=1).values
    nearest = to_training.topk(min(most, len(training)), dim=1)
    return Neighbours(nearest.indices, nearest.values, among)
