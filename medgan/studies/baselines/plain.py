"""A plain GAN with convolutions at every resolution, the full one included."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.core.seeding import seeded
from medgan.studies.baselines.blocks import SLOPE, stages
from medgan.studies.baselines.dcgan import BETAS, LATENT, RATE, hinge_step
from medgan.studies.baselines.widths import fitted_widths


class PlainGan:
    """Two convolutions with kernels of 3 at each resolution, in both networks.

    Objective, normalisation and Adam are those of `Dcgan`; nothing is left to sub-bands, slabs or
    strides: each network works on all voxels.

    Args:
        shape: (X, Y, Z), divisible by 16.
        parameters: of both networks together, about.
        seed: of the weights.
        device: where to train.
    """

    batch = 4

    def __init__(
        self, shape: tuple[int, int, int], parameters: int, seed: int, device: torch.device
    ) -> None:
        def build(widths: list[int]) -> list[nn.Module]:
            return [plain_generator(shape, widths), plain_discriminator(shape, widths)]

        widths = fitted_widths(stages(shape) + 1, parameters, build)
        with seeded(seed, device):
            self.generator, self.discriminator = build(widths)
        for module in self.discriminator.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                spectral_norm(module)
        for network in self.networks():
            network.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        self._generating = torch.optim.Adam(self.generator.parameters(), RATE, BETAS)
        self._discriminating = torch.optim.Adam(self.discriminator.parameters(), RATE, BETAS)

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        return [self.generator, self.discriminator]

    def step(self, volume: Float[Tensor, "B 1 X Y Z"], random: torch.Generator) -> None:
        """Moves the discriminator, then the generator."""
        optimizers = self._generating, self._discriminating
        hinge_step(self.generator, self.discriminator, optimizers, LATENT, volume, random)


def plain_generator(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Codes to volumes in (-1, 1): nearest neighbours and convolutions, batch norm and ReLU.

    Args:
        shape: (X, Y, Z).
        widths: channels by resolution, finest first.
    """
    base = [size >> (len(widths) - 1) for size in shape]
    channels = widths[-1]
    layers: list[nn.Module] = [
        nn.Linear(LATENT, channels * math.prod(base)),
        nn.Unflatten(1, (channels, *base)),
    ]
    for number, width in enumerate(reversed(widths)):
        if number:
            layers.append(nn.Upsample(scale_factor=2))
        for _ in range(2):
            convolution = nn.Conv3d(channels, width, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm3d(width), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers, nn.Conv3d(channels, 1, 3, padding=1), nn.Tanh())


def plain_discriminator(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Volumes to logits (B, 1): convolutions and means over eight voxels.

    Args:
        shape: (X, Y, Z).
        widths: channels by resolution, finest first.
    """
    layers: list[nn.Module] = []
    channels = 1
    for number, width in enumerate(widths):
        if number:
            layers.append(nn.AvgPool3d(2))
        for _ in range(2):
            layers += [nn.Conv3d(channels, width, 3, padding=1), nn.LeakyReLU(SLOPE)]
            channels = width
    base = math.prod(size >> (len(widths) - 1) for size in shape)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * base, 1))
