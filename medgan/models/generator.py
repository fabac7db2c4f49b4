"""The generator: latent to volume and label channels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.models.blocks import (
    SLOPE,
    Noise,
    ResidualBlock,
    SubPixel,
    Upsample,
    convolution,
    leaky_relu,
)
from medgan.models.condition import EMBEDDED, ConditionEmbedding


class Generator(nn.Module):
    """Maps a latent to a volume and, where labels are learned, to soft label channels.

    The latent shapes a learned coarse basis and scales every stage. All wide stages run at
    half resolution or below. The full resolution gets a few channels, up-sampled and from a
    sub-pixel convolution, and two convolutions. The output is linear: intensities are learned
    into [-1, 1], not squashed.

    Args:
        shape: (X, Y, Z) of the volume, divisible by 2 to the number of stages.
        out_channels: image channels, then label channels.
        latent: length of the latent.
        widths: channels of the stages, finest (half resolution) first.
        thin: channels at full resolution.
        blocks: residual blocks a stage.
        detail: how many of the thin channels come from a sub-pixel convolution; the others
            are up-sampled.
        condition: length of an encoded condition; 0 makes a generator without any.

    Reference: Huang et al. 2024, arXiv 2501.05441, section 3 (learned basis, no
        normalisation, no output non-linearity), carried to 3D.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_channels: int,
        latent: int,
        widths: tuple[int, ...],
        thin: int,
        blocks: int,
        detail: int,
        condition: int = 0,
    ) -> None:
        super().__init__()
        coarse_first = widths[::-1]
        base = tuple(size // 2 ** len(widths) for size in shape)
        self.latent = latent
        self.embed = ConditionEmbedding(condition, EMBEDDED) if condition else None
        latent += EMBEDDED if condition else 0
        self.basis = nn.Parameter(torch.randn(1, coarse_first[0], *base))
        self.shape_basis = nn.Linear(latent, coarse_first[0])
        nn.init.normal_(self.shape_basis.weight, std=latent**-0.5)
        self.scales = nn.ModuleList(nn.Linear(latent, w) for w in coarse_first)
        for scale in self.scales:
            nn.init.normal_(scale.weight, std=0.25 * latent**-0.5)  # pyright: ignore
            nn.init.zeros_(scale.bias)  # pyright: ignore
        depth = blocks * len(widths)
        self.noises = nn.ModuleList(Noise(w) for w in (*coarse_first, thin))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, depth) for _ in range(blocks))) for w in coarse_first
        )
        self.ups = nn.ModuleList(
            Upsample(a, b)
            for a, b in zip(coarse_first, (*coarse_first[1:], thin - detail), strict=True)
        )
        self.detail = SubPixel(widths[0], detail)
        gain = (2 / (1 + SLOPE**2)) ** 0.5
        self.thin = convolution(thin, thin, gain=gain)
        self.out = convolution(thin, out_channels, gain=gain)

    def forward(
        self,
        latent: Float[Tensor, "B L"],
        condition: Float[Tensor, "B D"] | None = None,
        random: torch.Generator | None = None,
    ) -> Float[Tensor, "B C X Y Z"]:
        """Latents (B, L) and conditions (B, D) to image and label channels (B, C, X, Y, Z).

        Args:
            latent: standard normal.
            condition: encoded; without one every condition is unknown, which is what zeros say.
            random: source of the noise, on the CPU; without it there is none, and the volume
                is a function of latent and condition alone.
        """
        if self.embed is not None:
            if condition is None:
                condition = latent.new_zeros(len(latent), self.embed.condition)
            latent = torch.cat([latent, self.embed(condition)], dim=1)
        x = fine = self.basis * self.shape_basis(latent)[:, :, None, None, None]
        for scale, noise, stage, up in zip(
            self.scales, self.noises, self.stages, self.ups, strict=False
        ):
            x = x * (1 + scale(latent))[:, :, None, None, None]
            fine = stage(noise(x, random))
            x = up(fine)
        x = self.noises[-1](torch.cat([x, self.detail(fine)], dim=1), random)
        return self.out(leaky_relu(self.thin(leaky_relu(x))))
