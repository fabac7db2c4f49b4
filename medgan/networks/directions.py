"""Directions of the latent along which a generator changes most, found without labels."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.networks.generator import Generator


class Directions(NamedTuple):
    """Directions of the latent, the one with the largest effect first.

    Attributes:
        vectors: (K, L), each of length 1 and at right angles to all others. The largest coordinate
            of each is positive.
        shares: (K,), of the whole effect on what the first layers give; all L sum to 1.
    """

    vectors: Float[Tensor, "K L"]
    shares: Float[Tensor, " K"]


def first_layers(generator: Generator) -> Float[Tensor, "F L"]:
    """The weights by which the latent enters: of the coarsest grid, and of the scale of each stage.

    The columns that read an embedded condition are left out.
    """
    layers = [generator.start, *generator.scales]
    weights = [layer.weight.detach().double().cpu() for layer in layers]  # pyright: ignore
    return torch.cat([weight[:, : generator.latent] for weight in weights])


def closed_form(weights: Float[Tensor, "F L"], count: int) -> Directions:
    """The unit vectors d of the latent for which |A d| is largest: eigenvectors of A^T A.

    Args:
        weights: A, of the layers that read the latent.
        count: how many, at most L.

    Reference: Shen and Zhou 2021, arXiv 2007.06600, eq. 4 to 7 (SeFa).
    """
    values, vectors = torch.linalg.eigh(weights.T @ weights)
    values, vectors = values.flip(0), vectors.T.flip(0)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    vectors = vectors * largest.sign()
    return Directions(vectors[:count].float(), (values / values.sum())[:count].float())
