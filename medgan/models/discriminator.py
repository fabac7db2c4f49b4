"""The discriminator: volume to realism logit, and the features behind it."""

from jaxtyping import Float
from torch import Tensor, nn

from medgan.models.blocks import Trunk


class Discriminator(nn.Module):
    """Judges a volume, or a volume together with its label channels.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of stages.
        in_channels: image channels, plus label channels for the discriminator of pairs.
        widths: channels of the stages, finest (half resolution) first.
        thin: channels at full resolution; 0 skips the full resolution.
        blocks: residual blocks a stage.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (closed by a global depthwise
        convolution and a linear layer).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        widths: tuple[int, ...],
        thin: int,
        blocks: int,
    ) -> None:
        super().__init__()
        base = tuple(size // 2 ** len(widths) for size in shape)
        self.trunk = Trunk(in_channels, widths, thin, blocks)
        self.pool = nn.Conv3d(widths[-1], widths[-1], base, groups=widths[-1])
        self.logit = nn.Linear(widths[-1], 1)
        nn.init.normal_(self.pool.weight, std=(base[0] * base[1] * base[2]) ** -0.5)
        nn.init.normal_(self.logit.weight, std=0.1 * widths[-1] ** -0.5)

    def features(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first."""
        return self.trunk(volume)

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, " B"]:
        """Volumes (B, C, X, Y, Z) to logits (B,); higher is more real."""
        coarsest = self.trunk(volume)[-1]
        return self.logit(self.pool(coarsest).flatten(1)).squeeze(1)
