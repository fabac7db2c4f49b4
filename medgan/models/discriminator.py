"""The discriminator: volume to realism logits, and the features behind them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.models.blocks import Trunk, convolution, leaky_relu

PATCH_GAIN = 10.0
"""Factor behind the patch heads. Their weights start so much smaller, and Adam, which moves any
weight by its learning rate, thereby moves their logits so much faster: without it they had told
nothing apart after 300 steps."""


class Discriminator(nn.Module):
    """Judges a volume, or a volume together with its label channels.

    It judges the whole, and every place at one or more resolutions: texture is the same
    everywhere, so thousands of verdicts on patches teach it sooner than one on the whole.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of halvings.
        in_channels: image channels, plus label channels for the discriminator of pairs.
        widths: channels of the stages, finest first.
        thin: channels at full resolution; 0 skips the thin octaves.
        blocks: residual blocks a stage.
        patches: stages that also give a logit for every position, finest first.
        minibatch_std: whether the closing layer sees how much the volumes of a batch differ.
        octaves: thin octaves above the stages.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (closed by a global depthwise
        convolution and a linear layer); Isola et al. 2017, arXiv 1611.07004, section 3.2.2
        (patches); Karras et al. 2018, arXiv 1710.10196, section 3 (standard deviation).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        widths: tuple[int, ...],
        thin: int,
        blocks: int,
        patches: int = 0,
        minibatch_std: bool = False,
        octaves: int = 1,
    ) -> None:
        super().__init__()
        base = tuple(size // 2 ** (len(widths) + octaves - 1) for size in shape)
        last = widths[-1] + int(minibatch_std)
        self.minibatch_std = minibatch_std
        self.trunk = Trunk(shape, in_channels, widths, thin, blocks, octaves)
        self.pool = nn.Conv3d(last, last, base, groups=last)
        self.logit = nn.Linear(last, 1)
        nn.init.normal_(self.pool.weight, std=(base[0] * base[1] * base[2]) ** -0.5)
        nn.init.normal_(self.logit.weight, std=0.1 * widths[-1] ** -0.5)
        self.patches = nn.ModuleList(
            convolution(width, 1, kernel=1, gain=0.1 / PATCH_GAIN) for width in widths[:patches]
        )

    def features(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first."""
        return self.trunk(volume)

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, " B"]:
        """Volumes (B, C, X, Y, Z) to logits (B,); higher is more real."""
        return self.judge(volume)[0].squeeze(1)

    def judge(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Logits of the whole, (B, 1), then of the places of each patch head, (B, P).

        A volume that was halved enters further in and has as many heads less.
        """
        features = self.trunk(volume)
        coarsest = features[-1]
        if self.minibatch_std:
            coarsest = torch.cat([coarsest, _spread(coarsest)], dim=1)
        whole = self.logit(self.pool(coarsest).flatten(1))
        places = [
            PATCH_GAIN * head(leaky_relu(x)).flatten(1)
            for head, x in zip(
                self.patches[len(self.trunk.stages) - len(features) :], features, strict=False
            )
        ]
        return [logits.float() for logits in (whole, *places)]


def _spread(features: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 X Y Z"]:
    """Mean standard deviation over the batch, as one constant channel."""
    variance = features.float().var(dim=0, unbiased=False)
    return (variance + 1e-8).sqrt().mean().to(features.dtype).expand_as(features[:, :1])
