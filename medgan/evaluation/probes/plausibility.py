"""Plausibility of a scan: measurements, and their bounds in a group of scans."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medgan.evaluation.probes.segmentation import dice_of_scans


def label_volumes(
    classes: Int[Tensor, "N X Y Z"], labels: int, voxel: float
) -> Float[Tensor, "N K"]:
    """Volume of each label in mm^3, shape (N, labels).

    Args:
        classes: 0 for background, 1 to `labels`.
        labels: how many there are.
        voxel: volume of one in mm^3.
    """
    counts = [(classes == label).flatten(1).sum(dim=1) for label in range(1, labels + 1)]
    blank = classes.new_zeros(len(classes), 0)
    return (torch.stack(counts, dim=1) if counts else blank).double() * voxel


def foreground_volumes(
    images: Float[Tensor, "N 1 X Y Z"], air: float, voxel: float
) -> Float[Tensor, " N"]:
    """Volume brighter than air in mm^3.

    Args:
        images: intensities in [-1, 1].
        air: below this is air.
        voxel: volume of one voxel in mm^3.
    """
    return (images > air).flatten(1).sum(dim=1).double() * voxel


def dice_by_volume(
    predicted: Int[Tensor, "N X Y Z"], truth: Int[Tensor, "N X Y Z"], labels: int
) -> Float[Tensor, " N"]:
    """Dice of each volume, averaged over the labels that either side has.

    1 where neither has any label.

    Args:
        predicted: classes, 0 for background.
        truth: likewise.
        labels: how many there are.
    """
    return dice_of_scans(predicted, truth, labels).nanmean(dim=1).nan_to_num(nan=1.0)


def outlier_bounds(values: Float[Tensor, " N"], deviations: float) -> tuple[float, float]:
    """Median minus and plus a number of robust standard deviations (1.4826 MAD).

    Args:
        values: of a group, at least one.
        deviations: number of robust standard deviations.

    Reference: Leys et al. 2013, Detecting outliers: do not use standard deviation around the mean,
        use absolute deviation around the median, J. Exp. Soc. Psychol. 49(4).
    """
    middle = values.quantile(0.5)
    reach = deviations * 1.4826 * (values - middle).abs().quantile(0.5)
    return float(middle - reach), float(middle + reach)


def range_bounds(values: Float[Tensor, " N"], margin: float) -> tuple[float, float]:
    """The 1st and 99th percentile of volumes, widened by a margin.

    Args:
        values: of a group, 0 or more.
        margin: 0.25 allows a quarter above the largest, or a fifth below the smallest.
    """
    low, high = values.quantile(0.01), values.quantile(0.99)
    return float(low / (1 + margin)), float(high * (1 + margin))
