"""The residual stage that all three networks are built of."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

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
        self, x: Float[Tensor, "B C X Y Z"], random: torch.Generator | None
    ) -> Float[Tensor, "B C X Y Z"]:
        """Same shape in and out; without a source of randomness, x as it is."""
        if random is None:
            return x
        noise = torch.randn(len(x), 1, *x.shape[2:], generator=random).to(x.device, x.dtype)
        return x + self.strength.to(x.dtype)[:, None, None, None] * noise


class Trunk(nn.Module):
    """Volume to coarse features: thin at full resolution, wide where the grid is small.

    The last octave of a volume holds eight times the voxels of the one below and would take
    nearly all the time, so it gets one thin convolution and a strided one. Strided
    convolutions also have a bf16 kernel and a deterministic backward on every device, which
    3D average pooling lacks.

    Args:
        in_channels: channels of the volume.
        widths: channels of the stages, finest (half resolution) first.
        thin: channels at full resolution; 0 starts with the strided convolution.
        blocks: residual blocks a stage.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], thin: int, blocks: int) -> None:
        super().__init__()
        gain = math.sqrt(2 / (1 + SLOPE**2))
        self.thin = convolution(in_channels, thin) if thin else None
        inputs = (thin or in_channels, *widths[:-1])
        self.downs = nn.ModuleList(
            convolution(a, b, stride=2, gain=gain if thin and i == 0 else 1.0)
            for i, (a, b) in enumerate(zip(inputs, widths, strict=True))
        )
        depth = blocks * len(widths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks))) for w in widths
        )

    def forward(self, x: Float[Tensor, "B C X Y Z"]) -> list[Tensor]:
        """Features of every stage, finest first; stage i is 2^(i+1) times smaller than x."""
        if self.thin is not None:
            x = leaky_relu(self.thin(x))
        features = []
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = stage(down(x))
            features.append(x)
        return features
