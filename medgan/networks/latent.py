"""Latents: truncated, walked between, fitted to a volume. Tensors in, tensors out."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

RATE = 0.05
"""Adam's first learning rate, for coordinates that are standard normal."""
LENGTH_WEIGHT = 1.0
"""A latent 10% longer than a typical one costs as much as a mean error of 0.01 in [-1, 1], which is
about what 100 steps gained on phantoms; one 6% longer, a standard deviation of the lengths of
latents of 128, costs 0.004."""


def truncate(
    latent: Float[Tensor, "*B L"], threshold: float, random: torch.Generator
) -> Float[Tensor, "*B L"]:
    """A latent whose coordinates beyond the threshold are drawn again, from within it.

    By the inverse of the distribution function, so that one number is taken from `random` for
    each coordinate however small the threshold is, and the others stay as they were.

    Args:
        latent: standard normal.
        threshold: above 0, in standard deviations.
        random: source of what is drawn again, on the CPU.

    Reference: Brock et al. 2019, arXiv 1809.11096, section 3.1.
    """
    level = torch.rand(latent.shape, generator=random, dtype=torch.float64)
    inside = math.erf(threshold / math.sqrt(2))
    again = math.sqrt(2) * torch.erfinv((2 * level - 1) * inside)
    again = again.clamp(-threshold, threshold).to(latent)
    return torch.where(latent.abs() > threshold, again, latent)


def slerp(a: Float[Tensor, " L"], b: Float[Tensor, " L"], share: float) -> Float[Tensor, " L"]:
    """The latent at a share of the arc from a to b: equal shares are equal angles.

    The length goes linearly from that of a to that of b. On the straight line between two
    standard normal latents it would fall by 30%, to where next to no latent was trained on.

    Args:
        a: not all zeros.
        b: likewise.
        share: 0 gives a and 1 gives b, to the bit.

    Reference: Shoemake 1985, Animating rotation with quaternion curves, section 3.3; White 2016,
        arXiv 1609.04468, section 2.1.
    """
    if share in (0.0, 1.0):
        return (b if share else a).clone()
    start, end = a.double(), b.double()
    length = start.norm() + share * (end.norm() - start.norm())
    start, end = start / start.norm(), end / end.norm()
    across = end - (start @ end) * start
    if across.norm() < 1e-9:  # parallel, or opposite: then any way round is as short
        across = torch.zeros_like(start)
        across[start.abs().argmin()] = 1.0
        across -= (start @ across) * start
        angle = math.pi if start @ end < 0 else 0.0
    else:
        angle = math.atan2(float(across.norm()), float(start @ end))
    turned = math.cos(share * angle) * start
    turned += math.sin(share * angle) * across / across.norm()
    return (length * turned).to(a)


class Fit(NamedTuple):
    """A latent fitted to a volume.

    Attributes:
        latent: shape (1, L).
        error_before, error_after: mean absolute difference in [-1, 1], of start and of latent.
    """

    latent: Float[Tensor, "1 L"]
    error_before: float
    error_after: float


def fit(
    generator: Callable[[Tensor], Tensor],
    volume: Float[Tensor, "1 1 X Y Z"],
    start: Float[Tensor, "1 L"],
    steps: int,
) -> Fit:
    """The latent from which a generator comes closest to a volume, by Adam from a start.

    The mean absolute error is minimised, plus a price on latents longer than typical ones,
    sqrt(L): what lies out there was never trained on, and edits and interpolations of it break.
    Shorter ones cost nothing: they lie towards the mean, where truncation draws too. The
    learning rate falls linearly to 0.

    Args:
        generator: latents (1, L) to volumes (1, 1, X, Y, Z), its parameters frozen.
        volume: in [-1, 1].
        start: such as the encoder's latent.
        steps: of Adam; 0 only measures the start.

    Returns:
        The best of all steps by error and price, never one with a larger error than the start.

    Reference: Abdal et al. 2019, arXiv 1904.03189, section 4 (optimisation into a latent).
    """
    with torch.inference_mode(False), torch.enable_grad():
        volume, latent = volume.clone(), start.clone().requires_grad_()
        optimizer = torch.optim.Adam([latent], lr=RATE)
        before, after, lowest, best = math.inf, math.inf, math.inf, start
        for step in range(steps + 1):
            difference = (generator(latent) - volume).abs().mean()
            too_long = torch.relu(latent.norm() / math.sqrt(latent.shape[1]) - 1)
            loss = difference + LENGTH_WEIGHT * too_long.square()
            error, value = difference.item(), loss.item()
            before = error if step == 0 else before
            if value < lowest and error <= before:
                lowest, after, best = value, error, latent.detach().clone()
            if step < steps:
                optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return Fit(best, before, after)
