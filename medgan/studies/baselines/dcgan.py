"""A plain 3D DCGAN with the hinge loss."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.core.seeding import seeded
from medgan.networks.device import fastest
from medgan.networks.gan import frozen
from medgan.studies.baselines.blocks import Growing, Shrinking, move, normal_start, sample_generator

LATENT = 128
RATE = 2e-4
BETAS = (0.0, 0.9)


class Dcgan:
    """Batch norm in the generator, spectral norm in the discriminator, one step each.

    Args:
        shape: (X, Y, Z), divisible by 16.
        seed: of the weights.
        device: where to train.

    Reference: Radford et al. 2016, arXiv 1511.06434 (networks); Miyato et al. 2018, arXiv
        1802.05957 (spectral norm, hinge loss, Adam with betas 0 and 0.9).
    """

    batch = 8

    def __init__(self, shape: tuple[int, int, int], seed: int, device: torch.device) -> None:
        with seeded(seed, device):
            self.generator = Growing(shape, LATENT, transposed=True).apply(normal_start)
            self.discriminator = Shrinking(shape, 1, batch_norm=False).apply(normal_start)
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
        self.generator.train()
        optimizers = self._generating, self._discriminating
        hinge_step(self.generator, self.discriminator, optimizers, LATENT, volume, random)

    def sample(self, count: int, random: torch.Generator) -> Float[Tensor, "N 1 X Y Z"]:
        """Volumes from the prior, in [-1, 1], on the CPU."""
        return sample_generator(self.generator, LATENT, count, random)


def hinge_step(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    latent: int,
    volume: Float[Tensor, "B 1 X Y Z"],
    random: torch.Generator,
) -> None:
    """Moves a discriminator, then a generator, once each by the hinge loss.

    Args:
        generator: codes to volumes.
        discriminator: volumes to logits.
        optimizers: of the generator and of the discriminator.
        latent: length of a code.
        volume: real volumes.
        random: source of codes, on the CPU.
    """
    device = volume.device
    generating, discriminating = optimizers

    def codes() -> Tensor:
        return torch.randn(len(volume), latent, generator=random).to(device)

    with fastest(device):
        with torch.no_grad():
            fake = generator(codes())
        real_logits, fake_logits = discriminator(volume), discriminator(fake)
    move(discriminating, hinge(real_logits.float(), fake_logits.float()))
    with frozen(discriminator), fastest(device):
        logits = discriminator(generator(codes()))
    move(generating, -logits.float().mean())


def hinge(real_logits: Tensor, fake_logits: Tensor) -> Float[Tensor, ""]:
    """The discriminator's hinge loss: reals above 1, fakes below -1.

    Reference: Miyato et al. 2018, arXiv 1802.05957, eq. 16.
    """
    return (1 - real_logits).relu().mean() + (1 + fake_logits).relu().mean()
