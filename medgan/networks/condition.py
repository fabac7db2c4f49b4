"""How a condition enters a network."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import SLOPE, leaky_relu

EMBEDDED = 32
"""Hidden features of an embedding, and what a generator is given."""


class ConditionEmbedding(nn.Module):
    """Encoded condition to features: two linear layers.

    Args:
        condition: length of an encoded condition.
        out: features.
        gain: factor on weights that would otherwise keep the size of their input.
        bias: without one, an unknown condition (all zeros) becomes all zeros.
    """

    def __init__(self, condition: int, out: int, gain: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.condition = condition
        self.first = nn.Linear(condition, EMBEDDED, bias)
        self.second = nn.Linear(EMBEDDED, out, bias)
        nn.init.normal_(self.first.weight, std=condition**-0.5)
        nn.init.normal_(self.second.weight, std=gain * math.sqrt(2 / (1 + SLOPE**2) / EMBEDDED))

    def forward(self, condition: Float[Tensor, "B D"]) -> Float[Tensor, "B F"]:
        """(B, D) to (B, F)."""
        return self.second(leaky_relu(self.first(condition)))
