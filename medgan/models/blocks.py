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
        return x + self.second(leaky_relu(self.first(x)))


def halve(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X2 Y2 Z2"]:
    """Means over cubes of eight voxels; unlike 3D pooling deterministic on every device."""
    for axis in (2, 3, 4):
        volume = volume.unflatten(axis, (-1, 2)).mean(axis + 1)
    return volume


def double(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X2 Y2 Z2"]:
    """Trilinear doubling of every axis."""
    return F.interpolate(volume, scale_factor=2, mode="trilinear", align_corners=False)


class Upsample(nn.Module):
    """Channel mixing at the coarse size, then trilinear doubling of every axis."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = convolution(in_channels, out_channels, kernel=1)

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """(B, C, X, Y, Z) to (B, D, 2X, 2Y, 2Z)."""
        return double(self.mix(x))


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

    Every stage but the coarsest also reads the volume itself, halved to the stage's size, and what
    comes from the finer stages is added to that, starting at zero. So a volume of half or a quarter
    of the size can enter at its own stage, and a network trained on those goes on at twice the
    size as if nothing had happened.

    Args:
        shape: (X, Y, Z) of the full volume, divisible by 2 to the number of halvings.
        in_channels: channels of the volume.
        widths: channels of the stages, finest first.
        thin: channels at full resolution, doubled at each thin octave below; 0 starts with the
            strided convolution, of the volume on the grid of the last thin octave.
        blocks: residual blocks a stage.
        octaves: thin octaves above the stages; 1 puts the finest stage at half resolution.

    Attributes:
        checkpointed: whether each octave is computed again in the backward pass.

    Reference: the sum over resolutions, Karras et al. 2020, arXiv 1912.04958, section 4.1;
        growing, Karras et al. 2018, arXiv 1710.10196.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        in_channels: int,
        widths: tuple[int, ...],
        thin: int,
        blocks: int,
        octaves: int = 1,
    ) -> None:
        super().__init__()
        self.checkpointed = False
        self.size = shape[0] if thin else shape[0] >> (octaves - 1)
        last = len(widths) - 1
        thins = [thin << number for number in range(octaves)] if thin else [in_channels]
        self.thin = convolution(in_channels, thin) if thin else None
        inputs = (thins[-1], *widths[:-1])
        self.downs = nn.ModuleList(
            convolution(a, b, stride=2, gain=1.0 if i == last else 0.0)
            for i, (a, b) in enumerate(zip(inputs, widths, strict=True))
        )
        self.entries = nn.ModuleList(convolution(in_channels, w) for w in widths[:-1])
        depth = blocks * len(widths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks))) for w in widths
        )
        self.thin_downs = nn.ModuleList(
            convolution(a, b, stride=2, gain=0.0) for a, b in pairwise(thins)
        )
        self.thin_entries = nn.ModuleList(convolution(in_channels, b) for b in thins[1:])

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first.

        Args:
            volume: of the full size, or halved once or more; the stages that are finer than
                half of its size are left out.
        """
        while volume.shape[2] > self.size:
            volume = halve(volume)
        halvings = (self.size // volume.shape[2]).bit_length() - 1
        thin = 1 + len(self.thin_downs)
        features = []
        above = None
        for octave in range(halvings, thin):
            above = run(self.checkpointed, self._thin_octave, octave, above, volume)
            volume = halve(volume)
        for number in range(max(0, halvings - thin), len(self.stages)):
            x = run(self.checkpointed, self._stage, number, above, volume)
            features.append(x)
            if number < len(self.entries):
                above = self.downs[number + 1](x)
                volume = halve(volume)
        return features

    def _thin_octave(self, octave: int, above: Tensor | None, volume: Tensor) -> Tensor:
        """What a thin octave hands down to the grid of half its size."""
        if octave == 0:
            x = volume if self.thin is None else leaky_relu(self.thin(volume))
        else:
            x = leaky_relu(_sum(above, self.thin_entries[octave - 1](volume)))
        below = self.thin_downs[octave] if octave < len(self.thin_downs) else self.downs[0]
        return below(x)

    def _stage(self, number: int, above: Tensor | None, volume: Tensor) -> Tensor:
        entered = self.entries[number](volume) if number < len(self.entries) else None
        return self.stages[number](_sum(above, entered))


def _sum(above: Tensor | None, entered: Tensor | None) -> Tensor:
    """What there is of what was handed down and what entered here."""
    if above is None or entered is None:
        one = entered if above is None else above
        assert one is not None
        return one
    return above + entered
