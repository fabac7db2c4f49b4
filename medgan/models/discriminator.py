"""The discriminator: volume to realism logit, and the features behind it."""

from jaxtyping import Float
from torch import Tensor, nn

from medgan.models.blocks import Trunk
from medgan.models.condition import ConditionEmbedding


class Discriminator(nn.Module):
    """Judges a volume, or a volume together with its label channels.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of stages.
        in_channels: image channels, plus label channels for the discriminator of pairs.
        widths: channels of the stages, finest (half resolution) first.
        thin: channels at full resolution; 0 skips the full resolution.
        blocks: residual blocks a stage.
        condition: length of an encoded condition; 0 makes a discriminator without any.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (closed by a global depthwise
        convolution and a linear layer); Miyato and Koyama 2018, arXiv 1802.05637, eq. 3 (the
        condition by projection).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        widths: tuple[int, ...],
        thin: int,
        blocks: int,
        condition: int = 0,
    ) -> None:
        super().__init__()
        base = tuple(size // 2 ** len(widths) for size in shape)
        self.trunk = Trunk(in_channels, widths, thin, blocks)
        self.pool = nn.Conv3d(widths[-1], widths[-1], base, groups=widths[-1])
        self.logit = nn.Linear(widths[-1], 1)
        nn.init.normal_(self.pool.weight, std=(base[0] * base[1] * base[2]) ** -0.5)
        nn.init.normal_(self.logit.weight, std=0.1 * widths[-1] ** -0.5)
        self.embed = None
        if condition:
            self.embed = ConditionEmbedding(condition, widths[-1], gain=0.1, bias=False)

    def features(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first."""
        return self.trunk(volume)

    def forward(
        self, volume: Float[Tensor, "B C X Y Z"], condition: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, " B"]:
        """Volumes (B, C, X, Y, Z) to logits (B,); higher is more real, and fits its condition.

        The logit is that of the volume alone plus the projection of its pooled features on the
        embedded condition; an unknown one, all zeros, adds nothing.
        """
        pooled = self.pool(self.trunk(volume)[-1]).flatten(1)
        logit = self.logit(pooled).squeeze(1)
        if self.embed is None or condition is None:
            return logit
        return logit + (self.embed(condition) * pooled).sum(dim=1) * pooled.shape[1] ** -0.5
