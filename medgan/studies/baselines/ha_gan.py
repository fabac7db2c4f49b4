"""HA-GAN: a coarse volume as a whole, the fine one in slabs, one generator behind both."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.parametrizations import spectral_norm

from medgan.core.seeding import seeded
from medgan.networks.blocks import halve
from medgan.networks.device import fastest
from medgan.networks.gan import frozen
from medgan.studies.baselines.blocks import SLOPE, move, stages

LATENT = 1024
WIDEST, COMMON = 512, 64
"""Channels of the coarsest grid, and of the features that both volumes are made of."""
SLABS = 4
"""The fine volume has so many times the slices of a slab along its last axis."""
GENERATING_RATE, DISCRIMINATING_RATE = 1e-4, 4e-4
BETAS = (0.0, 0.999)


class HaGan:
    """Fine slabs are judged where they were cut, coarse volumes as a whole.

    The generator makes common features of a code; of these one head makes the coarse volume, and
    another one the fine volume, in training a slab of it. Rates, code, objective, normalisation and
    batch are the authors'. Two things differ. At 32 voxels the coarse volume has half of the edge
    in place of a quarter, and a slab a quarter of the slices in place of an eighth. The encoder is
    left out: it learns with the generator frozen, and so does not change a sample.

    Args:
        shape: (X, Y, Z), divisible by 16.
        seed: of the weights.
        device: where to train.

    Reference: Sun et al. 2022, Hierarchical amortized GAN for 3D high resolution medical image
        synthesis, arXiv 2008.01910, sections 3.2 to 3.4.
    """

    batch = 4

    def __init__(self, shape: tuple[int, int, int], seed: int, device: torch.device) -> None:
        x, y, z = shape
        with seeded(seed, device):
            self.generator = Hierarchical(shape)
            self.coarse = Judge((x // 2, y // 2, z // 2))
            self.fine = Judge((x, y, z // SLABS), placed=True)
        for network in self.networks():
            network.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        judges = [*self.coarse.parameters(), *self.fine.parameters()]
        self._generating = torch.optim.Adam(self.generator.parameters(), GENERATING_RATE, BETAS)
        self._discriminating = torch.optim.Adam(judges, DISCRIMINATING_RATE, BETAS)

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        return [self.generator, self.coarse, self.fine]

    def step(self, volume: Float[Tensor, "B 1 X Y Z"], random: torch.Generator) -> None:
        """Moves both discriminators, then the generator, each by one slab a volume."""
        for judge, optimizer in ((True, self._discriminating), (False, self._generating)):
            place = int(torch.randint(_last_place(volume.shape[4] // 2) + 1, (), generator=random))
            latent = torch.randn(len(volume), LATENT, generator=random).to(volume.device)
            with fastest(volume.device):
                if judge:
                    with torch.no_grad():
                        fake = self.generator(latent, place)
                    real = halve(volume), slab(volume, 2 * place)
                    loss = self._loss(real, place, 1.0) + self._loss(fake, place, 0.0)
                else:
                    with frozen(self.coarse, self.fine):
                        loss = self._loss(self.generator(latent, place), place, 1.0)
            move(optimizer, loss)

    def _loss(self, pair: tuple[Tensor, Tensor], place: int, wanted: float) -> Tensor:
        """Cross entropy of both discriminators calling their volumes what is wanted."""
        coarse, fine = pair
        where = place / _last_place(coarse.shape[4])
        logits = self.coarse(coarse), self.fine(fine, where)
        targets = torch.full_like(logits[0], wanted, dtype=torch.float32)
        losses = (binary_cross_entropy_with_logits(one.float(), targets) for one in logits)
        return sum(losses, torch.zeros((), device=coarse.device)) / 2

    @torch.no_grad()
    def sample(self, count: int, random: torch.Generator) -> Float[Tensor, "N 1 X Y Z"]:
        """Volumes from the prior, in [-1, 1], on the CPU."""
        device = next(self.generator.parameters()).device
        codes = torch.randn(count, LATENT, generator=random)
        return torch.cat([self.generator(one.to(device))[1].cpu() for one in codes.split(4)])


class Hierarchical(nn.Module):
    """Codes to coarse and fine volumes in (-1, 1), nearest neighbours and convolutions of 3.

    Args:
        shape: (X, Y, Z) of the fine volume.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        doublings = stages(shape) - 1  # to the grid of the coarse volume
        base = [size >> (doublings + 1) for size in shape]
        widths = [max(COMMON, WIDEST >> number) for number in range(doublings)] + [COMMON]
        layers: list[nn.Module] = [
            nn.Linear(LATENT, WIDEST * math.prod(base)),
            nn.Unflatten(1, (WIDEST, *base)),
        ]
        channels = WIDEST
        for width in widths[1:]:
            layers += [*_convolved(channels, width), nn.Upsample(scale_factor=2)]
            channels = width
        self.common = nn.Sequential(*layers, *_convolved(channels, COMMON))
        half = COMMON // 2
        last = nn.Conv3d(half, 1, 3, padding=1)
        self.coarse = nn.Sequential(*_convolved(COMMON, half), last, nn.Tanh())
        last = nn.Conv3d(half, 1, 3, padding=1)
        up = nn.Upsample(scale_factor=2)
        self.fine = nn.Sequential(up, *_convolved(COMMON, half), last, nn.Tanh())

    def forward(
        self, code: Float[Tensor, "B L"], place: int | None = None
    ) -> tuple[Float[Tensor, "B 1 x y z"], Float[Tensor, "B 1 X Y S"]]:
        """Coarse volumes, and the fine slab at a place; without one the whole fine volume.

        A place is the first of its slices in the coarse volume.
        """
        features = self.common(code)
        part = features if place is None else slab(features, place)
        return self.coarse(features), self.fine(part)


class Judge(nn.Module):
    """A spectrally normalised discriminator of volumes of one shape, by strided convolutions.

    Args:
        shape: (X, Y, Z).
        placed: whether it is told where along the last axis a slab was cut.
    """

    def __init__(self, shape: tuple[int, int, int], placed: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, width, size = 1, COMMON // 2, list(shape)
        while max(size) > 6:
            strides = [2 if edge > 2 else 1 for edge in size]
            kernels = [4 if stride == 2 else 3 for stride in strides]
            layer = nn.Conv3d(channels, width, kernels, strides, padding=1)  # pyright: ignore
            layers += [spectral_norm(layer), nn.LeakyReLU(SLOPE)]
            size = [edge // stride for edge, stride in zip(size, strides, strict=True)]
            channels, width = width, min(2 * width, WIDEST)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.placed = placed
        self.last = spectral_norm(nn.Linear(channels * math.prod(size) + placed, 1))

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"], place: float = 0.0) -> Tensor:
        """Volumes to logits (B, 1); `place` from 0 to 1."""
        features = self.layers(volume)
        if self.placed:
            where = features.new_full((len(features), 1), place)
            features = torch.cat([features, where], dim=1)
        return self.last(features)


def slab(volume: Float[Tensor, "B C X Y Z"], place: int) -> Float[Tensor, "B C X Y S"]:
    """A quarter of the slices along the last axis, from `place` on."""
    return volume[..., place : place + volume.shape[4] // SLABS]


def _last_place(coarse_slices: int) -> int:
    """The last slice of a coarse volume at which a slab may begin."""
    return coarse_slices - coarse_slices // SLABS


def _convolved(channels: int, width: int) -> list[nn.Module]:
    """Convolution, group norm and ReLU."""
    return [nn.Conv3d(channels, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU()]
