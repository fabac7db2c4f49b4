"""Similarity of the volumes within a set: high similarity is low diversity."""

import torch
from jaxtyping import Float
from torch import Tensor

WINDOW = 7
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales in the paper, finest first."""


def fitting_scales(shape: tuple[int, ...]) -> tuple[float, ...]:
    """Weights of as many scales as the window allows, normalised to sum to 1.

    The usual window of 11 with five scales needs 176 voxels along every axis. A window of 7
    gives two scales from 14 voxels, three from 28, four from 63 and all five from 112.

    Args:
        shape: (X, Y, Z).
    """
    scales = max(
        n
        for n in range(1, 1 + len(WEIGHTS))
        # The coarsest scale holds a window, and MONAI asks for (n - 1)^2 of them.
        if min(shape) // max(2 ** (n - 1), (n - 1) ** 2) >= WINDOW
    )
    return tuple(weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales])


def ms_ssim(a: Float[Tensor, "B 1 X Y Z"], b: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, " B"]:
    """Multi-scale structural similarity of each volume of `a` with that of `b`.

    Window of 7 voxels (Gaussian, 1.5), scales from `fitting_scales`: values of grids with
    another number of scales cannot be compared.

    Args:
        a: shape (B, 1, X, Y, Z), intensities in [-1, 1], at least 7 voxels an axis.
        b: the same shape.

    Returns:
        Shape (B,), in [0, 1].

    Reference: Wang et al. 2003, Multiscale structural similarity for image quality assessment.
    """
    from monai.metrics.regression import compute_ms_ssim

    mapped = [(volume.float().clamp(-1, 1) + 1) / 2 for volume in (a, b)]
    weights = fitting_scales(tuple(a.shape[2:]))
    return compute_ms_ssim(
        mapped[0], mapped[1], 3, data_range=1.0, kernel_size=WINDOW, weights=weights
    ).flatten()


def pair_similarities(
    volumes: Float[Tensor, "N 1 X Y Z"], pairs: int, seed: int, batch: int = 16
) -> Float[Tensor, "N N"]:
    """MS-SSIM of random pairs of different volumes of a set; NaN for other pairs.

    Args:
        volumes: shape (N, 1, X, Y, Z), N above 1, intensities in [-1, 1].
        pairs: number of random pairs; all where there are no more.
        seed: of the pairs.
        batch: pairs at once.
    """
    upper = torch.triu_indices(len(volumes), len(volumes), offset=1, device="cpu").T
    order = torch.randperm(len(upper), generator=torch.Generator().manual_seed(seed))[:pairs]
    chosen = upper[order].to(volumes.device)
    found = torch.full((len(volumes), len(volumes)), torch.nan, device="cpu")
    for part in chosen.split(batch):
        values = ms_ssim(volumes[part[:, 0]], volumes[part[:, 1]]).cpu()
        found[part[:, 0].cpu(), part[:, 1].cpu()] = values
        found[part[:, 1].cpu(), part[:, 0].cpu()] = values
    return found


def mean_similarity(
    volumes: Float[Tensor, "N 1 X Y Z"], pairs: int, seed: int, batch: int = 16
) -> float:
    """Mean MS-SSIM over random pairs of different volumes of a set.

    Low values mean high diversity, but noise lowers them further: compare with real volumes.

    Args:
        volumes: shape (N, 1, X, Y, Z), N above 1, intensities in [-1, 1].
        pairs: number of random pairs; all where there are no more.
        seed: of the pairs.
        batch: pairs at once.

    Reference: Odena et al. 2017, arXiv 1610.09585, section 4.2 (MS-SSIM as a measure of
        diversity); Kwon et al. 2019, arXiv 1908.02498 (in 3D).
    """
    return float(pair_similarities(volumes, pairs, seed, batch).nanmean())
