"""The networks of deepbet, which find the brain in a T1 of a head, and their weights."""

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn

from medgan.core.convolution import Conv3d


def _normalised(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.InstanceNorm3d(channels), nn.ReLU(inplace=True)]


class _Residual(nn.Module):
    """Two convolutions beside the input, or beside its projection where the block halves it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        first = Conv3d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        second = Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(
            *_normalised(first, out_channels), second, nn.InstanceNorm3d(out_channels)
        )
        self.skip = nn.Sequential()
        if stride > 1:
            projection = Conv3d(in_channels, out_channels, 1, stride, bias=False)
            self.skip = nn.Sequential(projection, nn.InstanceNorm3d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.skip(x)).relu_()


def _up(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A bottleneck that doubles the grid, or keeps it."""
    middle = in_channels // 4
    doubling = nn.ConvTranspose3d(
        middle, middle, 3, stride, padding=1, output_padding=stride - 1, bias=False
    )
    return nn.Sequential(
        *_normalised(Conv3d(in_channels, middle, 1, bias=False), middle),
        *_normalised(doubling, middle),
        *_normalised(Conv3d(middle, out_channels, 1, bias=False), out_channels),
    )


class LinkNet(nn.Module):
    """A residual encoder and a light decoder, joined by sums, with instance normalisation.

    Reference: Chaurasia and Culurciello 2017, arXiv 1707.03718, carried to 3D as in Fisch et al.
        2024, deepbet, doi 10.1016/j.compbiomed.2024.108845.
    """

    def __init__(self) -> None:
        super().__init__()
        stem = Conv3d(1, 16, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(*_normalised(stem, 16), nn.MaxPool3d(3, stride=2, padding=1))
        widths = ((16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 128, 2))
        self.downs = nn.ModuleList(
            nn.Sequential(_Residual(i, o, s), _Residual(o, o, 1)) for i, o, s in widths
        )
        self.ups = nn.ModuleList(_up(o, i, s) for i, o, s in reversed(widths))
        self.head = nn.Sequential(
            *_normalised(nn.ConvTranspose3d(16, 8, 3, 2, padding=1, output_padding=1), 8),
            *_normalised(Conv3d(8, 8, 3, padding=1), 8),
            nn.ConvTranspose3d(8, 2, 2, 2),
        )

    def forward(self, x: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B X Y Z"]:
        """Probability of brain at every voxel; each axis divisible by 32."""
        x = self.stem(x)
        features = [x]
        for down in self.downs:
            features.append(down(features[-1]))
        x = features.pop()
        for up in self.ups:
            x = up(x) + features.pop()
        *layers, last = self.head
        for layer in layers:
            x = layer(x)
        assert isinstance(last, nn.ConvTranspose3d)
        return torch.sigmoid(_difference(last, x))


def _difference(
    layer: nn.ConvTranspose3d, x: Float[Tensor, "B C X Y Z"]
) -> Float[Tensor, "B X2 Y2 Z2"]:
    """What the second of two channels of `layer(x)` exceeds the first by.

    Windows of 2 voxels at a stride of 2 do not overlap: a product with a matrix gives them all.
    """
    assert layer.bias is not None
    weight, bias = layer.weight[:, 1] - layer.weight[:, 0], layer.bias[1] - layer.bias[0]
    parts = torch.einsum("bcxyz,cijk->bxiyjzk", x, weight) + bias
    return parts.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def _weights(name: str) -> tuple[Path, ...]:
    """Where weights lie: in the checkout that medgan runs from, or in the installed package."""
    package = Path(__file__).parents[2]
    return tuple(at / "zoo" / "deepbet" / f"{name}.safetensors" for at in (package.parent, package))


@cache
def brain_network(name: str) -> LinkNet:
    """A trained network, on the CPU.

    Args:
        name: `locate` sees the whole head, `segment` the box of the brain.
    """
    network = LinkNet()
    raw = next(path for path in _weights(name) if path.is_file()).read_bytes()
    network.load_state_dict({key: value.float() for key, value in load(raw).items()})
    return network.eval().requires_grad_(False)
