"""The residual stage that all three networks are built of."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SLOPE = 0.2


def leaky_relu(x: Tensor) -> Tensor:
    """The one activation of the house, slope 0.2."""
    return F.leaky_relu(x, SLOPE)


def convolution(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, gain: float = 1.0
) -> nn.Conv3d:
    """A 3D convolution that keeps (or divides by `stride`) the size of its input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: odd edge length of the kernel in voxels.
        stride: step in voxels.
        gain: factor on weights that would otherwise keep the variance of a linear map.
    """
    layer = nn.Conv3d(in_channels, out_channels, kernel, stride, padding=kernel // 2)
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


class Upsample(nn.Module):
    """Channel mixing at the coarse size, then trilinear doubling of every axis."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = convolution(in_channels, out_channels, kernel=1)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """(B, C, X, Y, Z) to (B, D, 2X, 2Y, 2Z)."""
        return F.interpolate(self.mix(x), scale_factor=2, mode="trilinear", align_corners=False)


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


def draw_noise(
    x: Float[Tensor, "B C X Y Z"], random: torch.Generator | None, times: int = 1
) -> Float[Tensor, "B 1 X2 Y2 Z2"] | None:
    """A map of Gaussian noise for each volume of `x`, on its grid or one `times` as fine.

    Without a source of randomness there is none.
    """
    if random is None:
        return None
    size = [times * n for n in x.shape[2:]]
    return torch.randn(len(x), 1, *size, generator=random).to(x.device, x.dtype)


class Noise(nn.Module):
    """Adds one map of Gaussian noise, scaled by a learned strength for each channel.

    What a latent cannot hold, the scanner's noise and the chance of fine texture, gets a source
    of its own.

    Reference: Karras et al. 2019, arXiv 1812.04948, section 3.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((channels,), 0.1))

    def forward(
        self, x: Float[Tensor, "B C X Y Z"], noise: Float[Tensor, "B 1 X Y Z"] | None
    ) -> Float[Tensor, "B C X Y Z"]:
        """Same shape in and out; without noise, x as it is."""
        if noise is None:
            return x
        return x + self.strength.to(x.dtype)[:, None, None, None] * noise


class Trunk(nn.Module):
    """Volume to coarse features: thin at full resolution, wide where the grid is small.

    The last octave of a volume holds eight times the voxels of the one below and would take
    nearly all the time, so it gets one thin convolution and a strided one. Strided
    convolutions also have a bf16 kernel and a deterministic backward on every device, which
    3D average pooling lacks.

    Args:
        in_channels: channels of the volume.
        widths: channels of the stages, finest first.
        thin: channels at full resolution, doubled at each thin octave below; 0 starts with the
            strided convolution, of the volume on the grid of the last thin octave.
        blocks: residual blocks a stage.
        octaves: thin octaves above the stages; 1 puts the finest stage at half resolution.

    Attributes:
        checkpointed: whether each octave is computed again in the backward pass.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...], thin: int, blocks: int, octaves: int = 1
    ) -> None:
        super().__init__()
        self.checkpointed = False
        self.halvings = 0 if thin else octaves - 1
        gain = math.sqrt(2 / (1 + SLOPE**2))
        thins = [thin << number for number in range(octaves)] if thin else [in_channels]
        self.thin = convolution(in_channels, thin) if thin else None
        inputs = (thins[-1], *widths[:-1])
        self.downs = nn.ModuleList(
            convolution(a, b, stride=2, gain=gain if thin and i == 0 else 1.0)
            for i, (a, b) in enumerate(zip(inputs, widths, strict=True))
        )
        depth = blocks * len(widths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks))) for w in widths
        )
        self.thin_downs = nn.ModuleList(
            convolution(a, b, stride=2, gain=gain) for a, b in pairwise(thins)
        )

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first; each is half the size of the one before."""
        for _ in range(self.halvings):
            x = halve(x)
        for octave in range(len(self.thin_downs) + 1):
            x = run(self.checkpointed, self._thin_octave, octave, x)
        features = []
        for number, stage in enumerate(self.stages):
            x = run(self.checkpointed, stage, self.downs[number](x) if number else x)
            features.append(x)
        return features

    def _thin_octave(self, octave: int, x: Tensor) -> Tensor:
        """From the grid of a thin octave to that of half its size."""
        if octave == 0 and self.thin is not None:
            x = leaky_relu(self.thin(x))
        if octave < len(self.thin_downs):
            return leaky_relu(self.thin_downs[octave](x))
        return self.downs[0](x)
