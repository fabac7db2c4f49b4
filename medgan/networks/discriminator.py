"""The discriminator: volume to realism logits, and the features behind them."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import Stages, Trunk
from medgan.networks.condition import ConditionEmbedding


class Discriminator(nn.Module):
    """Judges a volume, or a volume together with its label channels.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings.
        in_channels: image channels, plus label channels for the discriminator of pairs.
        stages: its sizes.
        condition: length of an encoded condition; 0 makes a discriminator without any.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (closed by a global depthwise
        convolution and a linear layer); Miyato and Koyama 2018, arXiv 1802.05637, eq. 3 (the
        condition by projection).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        stages: Stages,
        condition: int = 0,
    ) -> None:
        super().__init__()
        base, last = stages.coarsest(shape), stages.widths[-1]
        self.trunk = Trunk(in_channels, stages, stages.stem_blocks)
        self.pool = nn.Conv3d(last, last, base, groups=last)
        self.logit = nn.Linear(last, 1)
        nn.init.normal_(self.pool.weight, std=math.prod(base) ** -0.5)
        nn.init.normal_(self.logit.weight, std=0.1 * last**-0.5)
        self.embed = None
        if condition:
            self.embed = ConditionEmbedding(condition, last, gain=0.1, bias=False)

    def features(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first."""
        return self.trunk(volume)

    def forward(
        self, volume: Float[Tensor, "B C X Y Z"], condition: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, " B"]:
        """Volumes (B, C, X, Y, Z) to logits (B,); higher is more real, and fits its condition.

        A logit is that of the volume alone plus the projection of its pooled features on the
        embedded condition; an unknown condition, all zeros, adds nothing.
        """
        return self.judged(self.pooled(volume), condition)

    def pooled(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B F"]:
        """The features of each volume that are judged.

        The weights of `pool` are as large as the coarsest grid, so that it is a weighted sum.
        """
        coarsest = self.trunk(volume)[-1]
        pooled = (coarsest * self.pool.weight[:, 0]).sum(dim=(2, 3, 4))
        return pooled + self.pool.bias

    def judged(
        self, pooled: Float[Tensor, "B F"], condition: Float[Tensor, "B D"] | None
    ) -> Float[Tensor, " B"]:
        """Logits of pooled features with conditions; as `forward`."""
        logits = self.logit(pooled)
        if self.embed is not None and condition is not None:
            projection = (self.embed(condition) * pooled).sum(dim=1, keepdim=True)
            logits = logits + projection * pooled.shape[1] ** -0.5
        return logits.float().squeeze(1)
