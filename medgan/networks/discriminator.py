"""The discriminator: volume to realism logits, and the features behind them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.networks.blocks import Trunk, convolution, leaky_relu
from medgan.networks.condition import ConditionEmbedding

PATCH_GAIN = 10.0
"""Factor behind the patch heads. Their weights start so much smaller, and Adam, which moves any
weight by its learning rate, thereby moves their logits so much faster: without it they had told
nothing apart after 300 steps."""


class Discriminator(nn.Module):
    """Judges a volume, or a volume together with its label channels.

    It judges the whole, and every place at one or more resolutions: texture is the same
    everywhere, so thousands of verdicts on patches teach it sooner than one on the whole.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings.
        in_channels: image channels, plus label channels for the discriminator of pairs.
        widths: channels of the stages, finest first.
        stem_channels: channels of the first stem stage; 0 averages the volume down instead.
        blocks: residual blocks a stage.
        patches: stages that also give a logit for every position, finest first.
        minibatch_std: whether the closing layer sees how much the volumes of a batch differ.
        condition: length of an encoded condition; 0 makes a discriminator without any.
        stem_stages: resolutions above the first residual stage; 1 puts it at half resolution.
        windows: of CT, (low, high) in HU, through which the image is seen; none as it is.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (closed by a global depthwise
        convolution and a linear layer); Isola et al. 2017, arXiv 1611.07004, section 3.2.2
        (patches); Karras et al. 2018, arXiv 1710.10196, section 3 (standard deviation); Miyato
        and Koyama 2018, arXiv 1802.05637, eq. 3 (the condition by projection).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        widths: tuple[int, ...],
        stem_channels: int,
        blocks: int,
        patches: int = 0,
        minibatch_std: bool = False,
        condition: int = 0,
        stem_stages: int = 1,
        windows: Sequence[tuple[float, float]] = (),
    ) -> None:
        super().__init__()
        base = tuple(size // 2 ** (len(widths) + stem_stages - 1) for size in shape)
        last = widths[-1] + int(minibatch_std)
        self.minibatch_std = minibatch_std
        self.trunk = Trunk(in_channels, widths, stem_channels, blocks, stem_stages, windows)
        self.pool = nn.Conv3d(last, last, base, groups=last)
        self.logit = nn.Linear(last, 1)
        nn.init.normal_(self.pool.weight, std=(base[0] * base[1] * base[2]) ** -0.5)
        nn.init.normal_(self.logit.weight, std=0.1 * widths[-1] ** -0.5)
        self.patches = nn.ModuleList(
            convolution(width, 1, kernel=1, gain=0.1 / PATCH_GAIN) for width in widths[:patches]
        )
        self.embed = None
        if condition:
            self.embed = ConditionEmbedding(condition, last, gain=0.1, bias=False)

    def features(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first."""
        return self.trunk(volume)

    def forward(
        self, volume: Float[Tensor, "B C X Y Z"], condition: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, " B"]:
        """Volumes (B, C, X, Y, Z) to logits (B,); higher is more real, and fits its condition."""
        return self.judge(volume, condition)[0].squeeze(1)

    def judge(
        self, volume: Float[Tensor, "B C X Y Z"], condition: Float[Tensor, "B D"] | None = None
    ) -> list[Tensor]:
        """Logits of the whole, (B, 1), then of the places of each patch head, (B, P).

        The first is that of the volume alone plus the projection of its pooled features on the
        embedded condition; an unknown one, all zeros, adds nothing.
        """
        features = self.trunk(volume)
        coarsest = features[-1]
        if self.minibatch_std:
            coarsest = torch.cat([coarsest, _spread(coarsest)], dim=1)
        pooled = self.pool(coarsest).flatten(1)
        whole = self.logit(pooled)
        if self.embed is not None and condition is not None:
            projection = (self.embed(condition) * pooled).sum(dim=1, keepdim=True)
            whole = whole + projection * pooled.shape[1] ** -0.5
        places = [
            PATCH_GAIN * head(leaky_relu(x)).flatten(1)
            for head, x in zip(self.patches, features, strict=False)
        ]
        return [logits.float() for logits in (whole, *places)]


def _spread(features: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 X Y Z"]:
    """Mean standard deviation over the batch, as one constant channel."""
    variance = features.float().var(dim=0, unbiased=False)
    return (variance + 1e-8).sqrt().mean().to(features.dtype).expand_as(features[:, :1])
