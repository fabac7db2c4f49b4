"""Whether a latent is like those that the generator was trained on, or a scan like such scans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import chdtrc

from medgan.networks.latent import truncate

DRAWS = 10_000
"""Truncated latents whose lengths others are compared with."""
LEVEL = 0.05
"""A scan is unlike those trained on if at most this share of held-out scans lies as far off."""
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
        return float(chdtrc(len(values), square))
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


@dataclass(frozen=True)
class Hull:
    """Where the encoder's latents of training scans lie, and how far off those of held-out ones.

    Attributes:
        mean: (L,), of the training scans.
        whitening: (L, L), which makes their deviations from it standard normal.
        held_out: (H,), Mahalanobis distances of scans that were not trained on.
    """

    mean: Float[np.ndarray, " L"]
    whitening: Float[np.ndarray, "L L"]
    held_out: Float[np.ndarray, " H"]

    @classmethod
    def learn(
        cls, training: Float[np.ndarray, "N L"], held_out: Float[np.ndarray, "H L"]
    ) -> "Hull":
        """From the encoder's latents of both.

        Reference: Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional
            covariance matrices, JMVA 88.
        """
        from sklearn.covariance import LedoitWolf

        found = LedoitWolf().fit(np.asarray(training, float))
        covariance = found.covariance_
        floor = 1e-6 * max(float(np.trace(covariance)) / len(covariance), 1e-12)
        factor = np.linalg.cholesky(covariance + floor * np.eye(len(covariance)))
        whitening = np.linalg.inv(factor)
        empty = np.zeros(0, np.float32)
        hull = cls(found.location_.astype(np.float32), whitening.astype(np.float32), empty)
        return hull.calibrated(held_out)

    def calibrated(self, held_out: Float[np.ndarray, "H L"]) -> "Hull":
        """The same with other held-out scans, such as those of another scanner."""
        return replace(self, held_out=self.distance(held_out))

    def distance(self, latents: Float[np.ndarray, "B L"]) -> Float[np.ndarray, " B"]:
        """Mahalanobis distance of latents of the encoder from those of the training scans."""
        deviations = (latents - self.mean) @ self.whitening.T
        return np.sqrt(np.square(deviations).sum(axis=1)).astype(np.float32)

    def p_values(self, latents: Float[np.ndarray, "B L"]) -> list[float]:
        """The share of held-out scans, each latent included, that lie at least as far off."""
        beyond = (self.held_out[None] >= self.distance(latents)[:, None]).sum(axis=1)
        return [float(count + 1) / (len(self.held_out) + 1) for count in beyond]

    def remark_on(self, p_values: Sequence[float], names: Sequence[str]) -> str:
        """What to say of the scan that is least like those trained on; empty if all are like them.

        Few held-out scans cannot give a p-value below `LEVEL`: then none may lie as far off.

        Args:
            p_values: of scans.
            names: of the scans.
        """
        least = int(np.argmin(p_values))
        count = len(self.held_out)
        if p_values[least] > max(LEVEL, 1 / (count + 1)):
            return ""
        nearer = round((1 - p_values[least]) * (count + 1))
        return (
            f"{names[least]} is unlike the scans trained on: farther from them than {nearer} of "
            f"{count} held-out scans (p = {p_values[least]:.2g})"
        )
