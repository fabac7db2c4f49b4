"""The discriminator: volume to realism logits, and the features behind them."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import Trunk
from medgan.networks.condition import ConditionEmbedding


class Discriminator(nn.Module):
    """Judges a volume, or a volume together with its label channels.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings.
        in_channels: image channels, plus label channels for the discriminator of pairs.
        widths: channels of the stages, finest first.
        stem_channels: channels of the first stem stage; 0 averages the volume down instead.
        blocks: residual blocks a stage.
        condition: length of an encoded condition; 0 makes a discriminator without any.
        stem_stages: resolutions above the first residual stage; 1 puts it at half resolution.
        windows: of each image channel, (low, high) of CT in HU, through which it is seen; a channel
            without any is seen as it is.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (closed by a global depthwise
        convolution and a linear layer); Miyato and Koyama 2018, arXiv 1802.05637, eq. 3 (the
        condition by projection).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        widths: tuple[int, ...],
        stem_channels: int,
        blocks: int,
        condition: int = 0,
        stem_stages: int = 1,
        windows: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> None:
        super().__init__()
        base = tuple(size // 2 ** (len(widths) + stem_stages - 1) for size in shape)
        last = widths[-1]
        self.trunk = Trunk(in_channels, widths, stem_channels, blocks, stem_stages, windows)
        self.pool = nn.Conv3d(last, last, base, groups=last)
        self.logit = nn.Linear(last, 1)
        nn.init.normal_(self.pool.weight, std=(base[0] * base[1] * base[2]) ** -0.5)
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
        pooled = self.pool(self.trunk(volume)[-1]).flatten(1)
        logits = self.logit(pooled)
        if self.embed is not None and condition is not None:
            projection = (self.embed(condition) * pooled).sum(dim=1, keepdim=True)
            logits = logits + projection * pooled.shape[1] ** -0.5
        return logits.float().squeeze(1)
