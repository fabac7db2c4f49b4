"""Whether the spread of several answers says where a translation is wrong."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

FIFTHS = 5
Image = Float[np.ndarray, "X Y Z"]


class SpreadQuality(NamedTuple):
    """Spread against error, over the voxels of one scan.

    Attributes:
        coverage: share of voxels whose error is at most twice the spread; 0.95 of normal errors
            of that standard deviation.
        rank_correlation: Spearman's, of spread and absolute error.
        error_by_fifth: mean absolute error in the fifths of voxels with the least to the most
            spread.
    """

    coverage: float
    rank_correlation: float
    error_by_fifth: tuple[float, ...]


def spread_quality(error: Image, spread: Image, region: Bool[np.ndarray, "X Y Z"]) -> SpreadQuality:
    """Compares the spread of answers with the error of their mean.

    Args:
        error: prediction minus target.
        spread: standard deviation of the answers, in the same unit.
        region: voxels that count, at least five.
    """
    from scipy.stats import spearmanr

    size, sure = np.abs(error[region].astype(float)), spread[region].astype(float)
    order = np.argsort(sure, kind="stable")
    fifths = [float(size[part].mean()) for part in np.array_split(order, FIFTHS)]
    flat = sure.min() == sure.max() or size.min() == size.max()
    correlation = float("nan") if flat else float(np.asarray(spearmanr(sure, size)[0]))
    return SpreadQuality(float((size <= 2 * sure).mean()), correlation, tuple(fifths))
