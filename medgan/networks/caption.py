"""How a caption enters the networks: word vectors to a few features."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medgan.core.randomness import Randomness
from medgan.networks.blocks import SLOPE, leaky_relu

POOLED = 32
"""Features of a caption."""
_HIDDEN = 64
_WINDOW = 3
"""Words that are seen together, as *hardly any spiculation*."""


class CaptionEncoder(nn.Module):
    """Encoded conditions whose last columns are words, to conditions with features of the words.

    Every three words in a row become features; their mean and their maximum over the caption are
    mixed. It has no bias: an unknown caption, all zeros, stays all zeros.

    Args:
        words: rows of an encoded caption.
        features: of a word.
    """

    def __init__(self, words: int, features: int) -> None:
        super().__init__()
        self.words, self.features = words, features
        self.windows = nn.Conv1d(features, _HIDDEN, _WINDOW, padding=_WINDOW // 2, bias=False)
        self.mix = nn.Linear(2 * _HIDDEN, POOLED, bias=False)
        nn.init.normal_(self.windows.weight, std=(_WINDOW * features) ** -0.5)
        nn.init.normal_(self.mix.weight, std=math.sqrt(2 / (1 + SLOPE**2) / (2 * _HIDDEN)))

    def forward(self, condition: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """(B, D) to (B, D - words * features + POOLED)."""
        rest, caption = self._split(condition)
        rows = caption.unflatten(1, (self.words, self.features)).transpose(1, 2)
        there = rows.ne(0).any(dim=1, keepdim=True)
        x = leaky_relu(self.windows(rows)) * there
        mean = x.sum(dim=2) / there.sum(dim=2).clamp(min=1)
        largest = x.masked_fill(~there, -math.inf).amax(dim=2)
        largest = torch.where(there.any(dim=2), largest, torch.zeros_like(largest))
        return torch.cat([rest, self.mix(torch.cat([mean, largest], dim=1))], dim=1)

    def mismatched(
        self, condition: Float[Tensor, "B D"], seen: Float[Tensor, "B E"]
    ) -> tuple[Float[Tensor, "B E"], Bool[Tensor, " B"]]:
        """Conditions with the caption of the scan before, and which captions then differ.

        Args:
            condition: encoded.
            seen: what `forward` makes of them.
        """
        caption = self._split(condition)[1]
        other = caption.roll(1, 0)
        differ = (caption != other).any(dim=1) & caption.any(dim=1) & other.any(dim=1)
        wrong = torch.cat([seen[:, :-POOLED], seen[:, -POOLED:].roll(1, 0)], dim=1)
        return wrong, differ

    def without_words(
        self, condition: Float[Tensor, "B D"], share: float, random: Randomness
    ) -> Float[Tensor, "B D"]:
        """Leaves out a share of the words at random, so that none is needed."""
        rest, caption = self._split(condition)
        kept = random.uniform(len(caption), self.words) >= share
        rows = caption.unflatten(1, (self.words, self.features)) * kept[..., None].to(caption)
        return torch.cat([rest, rows.flatten(1)], dim=1)

    def _split(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """The other conditions, and the words."""
        columns = self.words * self.features
        return condition[:, :-columns], condition[:, -columns:]
