"""Whether a latent is like those that the generator was trained on."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import chi2

from medgan.networks.latent import truncate

DRAWS = 10_000
"""Truncated latents whose lengths others are compared with."""
RARE = 0.001
"""A latent is unusual if fewer random latents are longer than this share."""


def share_longer(values: Float[np.ndarray, " L"], truncation: float = 0.0) -> float:
    """The share of random latents that are longer than this one.

    The square of the length of L standard normal numbers has a chi-squared distribution with L
    degrees of freedom. Of truncated ones, `DRAWS` are counted.

    Args:
        values: the latent.
        truncation: of the random latents; 0 is off.
    """
    square = np.square(values, dtype=float).sum()
    if not truncation:
        return float(chi2.sf(square, len(values)))
    return float((_truncated_squares(len(values), truncation) > square).mean())


@lru_cache(maxsize=4)
def _truncated_squares(count: int, truncation: float) -> Float[np.ndarray, " D"]:
    """Squared lengths of truncated random latents of so many numbers."""
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(DRAWS, count, generator=random)
    return truncate(drawn, truncation, random).double().square().sum(dim=1).numpy()


def remark_on(latents: Iterable[Float[np.ndarray, " L"]]) -> str:
    """What to say if the longest of some latents is longer than nearly all random ones; else empty.

    A shorter latent is no cause for a remark: the generator draws more typical scans from it.
    """
    longest = max(latents, key=lambda values: float(np.linalg.norm(values)))
    if share_longer(longest) >= RARE:
        return ""
    length = float(np.linalg.norm(longest)) / len(longest) ** 0.5
    return f"a latent of {length:.2f} times the usual length is outside of those trained on"
