"""The residual stage that all three networks are built of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medgan.core.convolution import Conv3d
from medgan.networks.resampling import resized
from medgan.networks.subbands import SubBands
from medgan.networks.windows import WindowViews

SLOPE = 0.2


def leaky_relu(x: Tensor) -> Tensor:
    """The one activation of the house, slope 0.2."""
    return F.leaky_relu(x, SLOPE)


def convolution(
    in_channels: int, out_channels: int, kernel: int = 3, gain: float = 1.0
) -> nn.Conv3d:
    """A 3D convolution that keeps the size of its input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd edge length of the kernel in voxels.
        gain: factor on weights that would otherwise keep the variance of a linear map.
    """
    layer = Conv3d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(in_channels * kernel**3))
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer


def run(checkpointed: bool, part: Callable[..., Tensor], *inputs: object) -> Tensor:
    """`part(*inputs)`; if `checkpointed`, once more in the backward pass, keeping only inputs.

    Everything random must be among the inputs.

    Reference: Chen et al. 2016, arXiv 1604.06174.
    """
    if not (checkpointed and torch.is_grad_enabled()):
        return part(*inputs)
    result = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(result, Tensor)
    return result


def halve(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X2 Y2 Z2"]:
    """Means over cubes of eight voxels; unlike 3D pooling deterministic on every device."""
    for axis in (2, 3, 4):
        volume = volume.unflatten(axis, (-1, 2)).mean(axis + 1)
    return volume


class ResidualBlock(nn.Module):
    """`x + conv(act(conv(x)))`, the second convolution starting at zero.

    Without normalisation layers a deep stack starts as the identity, which is what keeps a
    network without them trainable (Zhang et al. 2019, arXiv 1901.09321).

    Args:
        channels: channels in and out.
        depth: residual blocks in the whole network; scales the first convolution.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        gain = math.sqrt(2 / (1 + SLOPE**2)) * depth**-0.25
        self.first = convolution(channels, channels, gain=gain)
        self.second = convolution(channels, channels, gain=0.0)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        """Same shape in and out."""
        if x.shape[2] == 2 and x.device.type == "cpu":
            # torch 2.13's bf16 weight gradient reads memory that nobody wrote at 2 voxels along X.
            with torch.autocast("cpu", enabled=False):
                return self._added(x.float())
        return self._added(x)

    def _added(self, x: Tensor) -> Tensor:
        return x + self.second(leaky_relu(self.first(x)))


def residual_blocks(number: int, channels: int, depth: int) -> nn.Sequential:
    """So many residual blocks, one behind the other; see `ResidualBlock`."""
    return nn.Sequential(*(ResidualBlock(channels, depth) for _ in range(number)))


class Halving(nn.Module):
    """A convolution of stride 2 whose windows of 4 voxels count every voxel equally often.

    Windows of 3 count every second voxel twice along each axis. So does the gradient that a
    discriminator sends back, and what it trained had stripes of one voxel.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        gain: factor on weights that would otherwise keep the variance of a linear map.

    Reference: Odena et al. 2016, Deconvolution and checkerboard artifacts, Distill,
        doi 10.23915/distill.00003.
    """

    def __init__(self, in_channels: int, out_channels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.layer = Conv3d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
        nn.init.normal_(self.layer.weight, std=gain / math.sqrt(in_channels * 4**3))
        nn.init.zeros_(self.layer.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "B C X2 Y2 Z2"]) -> Float[Tensor, "B D X Y Z"]:
        """(B, C, 2X, 2Y, 2Z) to (B, D, X, Y, Z)."""
        if x.shape[3] == 2 and x.device.type == "cpu":
            # torch 2.13's bf16 weight gradient is wrong, or crashes, at 2 voxels along Y.
            with torch.autocast("cpu", enabled=False):
                return self.layer(x.float())
        return self.layer(x)


class Upsample(nn.Module):
    """Channel mixing at the coarse size, then trilinear doubling of every axis."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = convolution(in_channels, out_channels, kernel=1)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """(B, C, X, Y, Z) to (B, D, 2X, 2Y, 2Z)."""
        x = self.mix(x)
        return resized(x, [2 * n for n in x.shape[2:]])


class SubPixel(nn.Module):
    """Doubles every axis by laying eight channels of the coarse grid side by side.

    It brings detail of the finest octave, which trilinear doubling cannot, at the price of the
    coarse grid.

    The eight start equal, as a doubling that repeats voxels: unequal ones leave a checkerboard
    that was still there after 350 steps.

    Reference: Shi et al. 2016, arXiv 1609.05158, eq. 4, carried to 3D; the start, Aitken et al.
        2017, arXiv 1707.02937, section 3.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = convolution(in_channels, 8 * out_channels, kernel=1)
        with torch.no_grad():
            self.mix.weight.copy_(self.mix.weight[::8].repeat_interleave(8, dim=0))

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """(B, C, X, Y, Z) to (B, D, 2X, 2Y, 2Z)."""
        x = self.mix(x).unflatten(1, (-1, 2, 2, 2))
        b, c, _, _, _, i, j, k = x.shape
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(b, c, 2 * i, 2 * j, 2 * k).contiguous(memory_format=torch.channels_last_3d)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # noqa: ANN001, ANN205
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * ((x.abs() <= 1) | (x * gradient > 0))


def clip(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Clipped to [-1, 1]; outside it, gradients pass where descending them leads back in."""
    clipped = _Clip.apply(x)
    assert isinstance(clipped, Tensor)
    return clipped


class SubBandConvolution(nn.Module):
    """A convolution that reads a volume as Haar sub-bands, and so at half its size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.subbands = SubBands()
        self.layer = convolution(8 * in_channels, out_channels)

    def forward(self, x: Float[Tensor, "B C X2 Y2 Z2"]) -> Float[Tensor, "B D X Y Z"]:
        """(B, C, 2X, 2Y, 2Z) to (B, D, X, Y, Z)."""
        return self.layer(self.subbands.split(x))


@dataclass(frozen=True)
class Stages:
    """Sizes that all networks of a model share, from the finest grid to the coarsest.

    Attributes:
        widths: channels of the stages, finest first.
        stem_channels: channels at half resolution behind the generator's stages, and of the first
            stem stage of the other networks, doubled at each below; 0 averages their volume down
            instead.
        blocks: residual blocks a stage.
        stem_stages: resolutions above the first residual stage; 1 puts it at half resolution.
        stem_blocks: residual blocks of generator and discriminator in the stem stage next to the
            first residual stage.
        windows: of each image channel, (low, high) of CT in HU, through which networks see it; a
            channel without any is seen as it is.
    """

    widths: tuple[int, ...]
    stem_channels: int
    blocks: int
    stem_stages: int = 1
    stem_blocks: int = 0
    windows: Sequence[Sequence[tuple[float, float]]] = ()

    def coarsest(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The coarsest grid of a volume, which must be divisible so many times."""
        x, y, z = (size // 2 ** (len(self.widths) + self.stem_stages - 1) for size in shape)
        return x, y, z


class Trunk(nn.Module):
    """Volume to coarse features: nothing at full resolution, wide where the grid is small.

    The last octave of a volume holds eight times the voxels of the one below and would take
    nearly all the time, so the first convolution reads Haar sub-bands of half the size.

    Args:
        in_channels: channels of the volume.
        stages: its sizes.
        stem_blocks: residual blocks in the coarsest stage of the stem.

    Attributes:
        checkpointed: whether each stage is computed again in the backward pass.
    """

    def __init__(self, in_channels: int, stages: Stages, stem_blocks: int = 0) -> None:
        super().__init__()
        self.checkpointed = False
        windows, thin = stages.windows, stages.stem_channels
        self.views = WindowViews(windows) if any(windows) else nn.Identity()
        in_channels += sum(max(0, len(views) - 1) for views in windows)
        self.downsamplings = 0 if thin else stages.stem_stages - 1
        gain = math.sqrt(2 / (1 + SLOPE**2))
        stem = [thin << number for number in range(stages.stem_stages - 1) if thin]
        first, *others = [*stem, *stages.widths]
        downs = [
            SubBandConvolution(in_channels, first),
            *(
                Halving(a, b, gain if number < len(stem) else 1.0)
                for number, (a, b) in enumerate(pairwise([first, *others]))
            ),
        ]
        self.stem_downs = nn.ModuleList(downs[: len(stem)])
        self.downs = nn.ModuleList(downs[len(stem) :])
        depth = stages.blocks * len(stages.widths)
        self.stages = nn.ModuleList(
            residual_blocks(stages.blocks, width, depth) for width in stages.widths
        )
        self.stem_blocks = residual_blocks(stem_blocks, stem[-1] if stem else 0, depth)

    @property
    def first(self) -> SubBandConvolution:
        """The layer that reads the volume."""
        layer = next(iter([*self.stem_downs, *self.downs]))
        assert isinstance(layer, SubBandConvolution)
        return layer

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first; each is half the size of the one before."""
        x = self.views(x)
        for _ in range(self.downsamplings):
            x = halve(x)
        for stage in self.stem_downs:
            x = leaky_relu(run(self.checkpointed, stage, x))
        x = run(self.checkpointed, self.stem_blocks, x)
        features = []
        for number in range(len(self.stages)):
            x = run(self.checkpointed, self._stage, number, x)
            features.append(x)
        return features

    def _stage(self, number: int, x: Tensor) -> Tensor:
        return self.stages[number](self.downs[number](x))
