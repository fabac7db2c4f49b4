"""Contrast of features: what lies at one place before and after a change belongs together."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import SLOPE


class ProjectionHeads(nn.Module):
    """Features of each stage of a trunk at some places, as vectors of length 1.

    They are part of a training and not of the model.

    Args:
        widths: channels of each stage.
        size: of the vectors.

    Reference: Park et al. 2020, arXiv 2007.15651, section 3.2 (two layers a stage).
    """

    def __init__(self, widths: Sequence[int], size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, size), nn.LeakyReLU(SLOPE), nn.Linear(size, size))
            for width in widths
        )

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Vectors of each stage, (B, P, D).

        Args:
            features: of each stage, (B, C, X, Y, Z).
            places: numbers of voxels of each stage, (P,), the same for all volumes.
        """
        return [
            F.normalize(head(feature.flatten(2).index_select(2, some).mT.float()), dim=2)
            for head, feature, some in zip(self.heads, features, places, strict=True)
        ]


def draw_places(features: Sequence[Tensor], most: int, random: torch.Generator) -> list[Tensor]:
    """Places of each stage at random, (P,), none twice: `most`, or all where there are fewer."""
    sizes = [feature.shape[2:].numel() for feature in features]
    return [
        torch.randperm(size, generator=random)[:most].to(feature.device)
        for size, feature in zip(sizes, features, strict=True)
    ]


def contrastive_loss(
    query: Float[Tensor, "B P D"], key: Float[Tensor, "B P D"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of finding the key of a query's own place among those of its volume.

    Args:
        query: vectors of length 1 after a change.
        key: those before it, at the same places; no gradient reaches them.
        temperature: cosines are divided by it.

    Reference: Park et al. 2020, arXiv 2007.15651, eq. 2 and 3 (PatchNCE).
    """
    cosines = query @ key.detach().transpose(1, 2) / temperature
    own = torch.arange(cosines.shape[1], device=cosines.device).expand(len(cosines), -1)
    return F.cross_entropy(cosines.flatten(0, 1), own.flatten())
