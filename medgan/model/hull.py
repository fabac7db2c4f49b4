"""Whether a latent is like those that the generator was trained on."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from scipy.stats import chi2

RARE = 0.001
"""A latent is unusual if fewer random latents are longer than this share."""


def share_longer(values: Float[np.ndarray, " L"]) -> float:
    """The share of random latents that are longer than this one.

    The square of the length of L standard normal numbers has a chi-squared distribution with L
    degrees of freedom.
    """
    return float(chi2.sf(np.square(values, dtype=float).sum(), len(values)))


def remark_on(latents: Iterable[Float[np.ndarray, " L"]]) -> str:
    """What to say if the longest of some latents is longer than nearly all random ones; else empty.

    A shorter latent is no cause for a remark: the generator draws more typical scans from it.
    """
    longest = max(latents, key=lambda values: float(np.linalg.norm(values)))
    if share_longer(longest) >= RARE:
        return ""
    length = float(np.linalg.norm(longest)) / len(longest) ** 0.5
    return f"a latent of {length:.2f} times the usual length is outside of those trained on"
