"""3D alpha-WGAN-GP: an auto-encoder, a critic of volumes and a critic of codes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.seeding import seeded
from medgan.networks.device import fastest
from medgan.networks.gan import frozen
from medgan.studies.baselines.blocks import Growing, Shrinking, move, sample_generator

LATENT = 1000
CODE_UNITS = 4096
RECONSTRUCTION = 10.0
PENALTY = 10.0
RATE = 2e-4


class AlphaWgan:
    """Encoder and generator learn together against both critics, each moved once a step.

    Sizes, batch norm in all networks (the critics too), weights of the losses and Adam are the
    authors'. Three things differ. At 32 voxels there are three downsamplings for their four.
    Encoder and generator are moved together once, where the published code moves the generator
    twice. The critics learn from the volumes that encoder and generator were just moved by, which
    saves a pass.

    Args:
        shape: (X, Y, Z), divisible by 16.
        seed: of the weights.
        device: where to train.

    Reference: Kwon, Han and Kim 2019, arXiv 1908.02498; Gulrajani et al. 2017, arXiv 1704.00028.
    """

    batch = 4

    def __init__(self, shape: tuple[int, int, int], seed: int, device: torch.device) -> None:
        with seeded(seed, device):
            self.encoder = Shrinking(shape, LATENT, batch_norm=True)
            self.generator = Growing(shape, LATENT, transposed=False)
            self.critic = Shrinking(shape, 1, batch_norm=True)
            self.code_critic = code_critic(LATENT, CODE_UNITS)
        for network in self.networks():
            network.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        both = [*self.encoder.parameters(), *self.generator.parameters()]
        self._autoencoding = torch.optim.Adam(both, RATE, fused=True)
        self._criticising = torch.optim.Adam(self.critic.parameters(), RATE, fused=True)
        self._code_criticising = torch.optim.Adam(self.code_critic.parameters(), RATE, fused=True)

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        return [self.encoder, self.generator, self.critic, self.code_critic]

    def step(self, volume: Float[Tensor, "B 1 X Y Z"], random: torch.Generator) -> None:
        """Moves encoder and generator, then the critic, then the critic of codes."""
        device = volume.device
        latent = torch.randn(len(volume), LATENT, generator=random).to(device)
        for network in self.networks():
            network.train()
        with (
            frozen(self.critic, self.code_critic),
            fastest(device),
        ):
            code = self.encoder(volume)
            recon, fake = self.generator(code), self.generator(latent)
            realism = self.critic(recon).mean() + self.critic(fake).mean()
            loss = -realism.float() - self.code_critic(code).mean().float()
        loss = loss + RECONSTRUCTION * (volume - recon.float()).abs().mean()
        move(self._autoencoding, loss)
        code, recon, fake = code.detach().float(), recon.detach().float(), fake.detach().float()
        loss = self.critic(recon).mean() + self.critic(fake).mean() - 2 * self.critic(volume).mean()
        for other in (recon, fake):
            loss = loss + PENALTY * gradient_penalty(self.critic, volume, other, random)
        move(self._criticising, loss)
        loss = self.code_critic(code).mean() - self.code_critic(latent).mean()
        loss = loss + PENALTY * gradient_penalty(self.code_critic, latent, code, random)
        move(self._code_criticising, loss)

    def sample(self, count: int, random: torch.Generator) -> Float[Tensor, "N 1 X Y Z"]:
        """Volumes from the prior, in [-1, 1], on the CPU."""
        return sample_generator(self.generator, LATENT, count, random)


def code_critic(latent: int, units: int) -> nn.Sequential:
    """Code to one logit, two hidden layers with batch norm."""
    return nn.Sequential(
        nn.Linear(latent, units),
        nn.BatchNorm1d(units),
        nn.LeakyReLU(0.2),
        nn.Linear(units, units),
        nn.BatchNorm1d(units),
        nn.LeakyReLU(0.2),
        nn.Linear(units, 1),
    )


def gradient_penalty(
    critic: nn.Module, real: Tensor, fake: Tensor, random: torch.Generator
) -> Float[Tensor, ""]:
    """Mean squared distance from 1 of the gradient's length, between real and fake.

    Args:
        critic: anything that gives one number a row.
        real: shape (B, ...).
        fake: the same shape.
        random: source of the places between, on the CPU.

    Reference: Gulrajani et al. 2017, arXiv 1704.00028, eq. 3.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), generator=random).to(real.device)
    between = torch.lerp(real, fake, share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
