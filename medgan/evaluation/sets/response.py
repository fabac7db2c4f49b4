"""Whether synthetic volumes follow the value they were asked for."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Response(NamedTuple):
    """How a measurement goes with a continuous condition, in real and in synthetic volumes.

    Attributes:
        real_correlation, correlation: Pearson's, of condition and measurement.
        real_slope, slope: of the line of least squares, measurement a unit of the condition.
        real_error: mean absolute distance of real measurements from the real line.
        error: of synthetic measurements from the same real line.
        bias: mean distance of synthetic measurements from it, above it positive.
    """

    real_correlation: float
    correlation: float
    real_slope: float
    slope: float
    real_error: float
    error: float
    bias: float


def response(
    real_condition: Float[Tensor, " N"],
    real_measured: Float[Tensor, " N"],
    condition: Float[Tensor, " M"],
    measured: Float[Tensor, " M"],
) -> Response:
    """Measurements of volumes against what they were asked for.

    Args:
        real_condition: value of each real volume, such as age in years.
        real_measured: what is measured in it, such as `metrics.dark_share`.
        condition: value that each synthetic volume was asked for.
        measured: the same measurement in it.

    Raises:
        ValueError: fewer than three volumes of a kind, or all with one value.
    """
    slope, start = _line(real_condition, real_measured)
    distance = measured - (start + slope * condition)
    real_distance = real_measured - (start + slope * real_condition)
    return Response(
        _correlation(real_condition, real_measured),
        _correlation(condition, measured),
        slope,
        _line(condition, measured)[0],
        float(real_distance.abs().mean()),
        float(distance.abs().mean()),
        float(distance.mean()),
    )


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Slope and value at 0 of the line of least squares."""
    if len(x) < 3 or float(x.max() - x.min()) == 0:
        raise ValueError("three volumes or more are needed, of more than one value")
    offset = x - x.mean()
    slope = float((offset * (y - y.mean())).sum() / offset.square().sum())
    return slope, float(y.mean()) - slope * float(x.mean())


def _correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])
