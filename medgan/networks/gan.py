"""The three networks of a model, built from its configuration."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from medgan.core.errors import ModelError
from medgan.networks.blocks import Trunk
from medgan.networks.discriminator import Discriminator
from medgan.networks.encoder import Encoder
from medgan.networks.generator import Generator
from medgan.networks.localiser import Localiser


@dataclass
class Networks:
    """Generator, encoder, discriminator and, once it has learned, the localiser, on one device.

    Models that were made to be shared have no discriminator.
    """

    generator: Generator
    encoder: Encoder
    discriminator: Discriminator | None
    localiser: Localiser | None = None

    @classmethod
    def build(
        cls,
        shape: tuple[int, int, int],
        labels: int,
        latent: int,
        widths: tuple[int, ...],
        stem_channels: int,
        blocks: int,
        condition: int = 0,
        stem_stages: int = 1,
        windows: Sequence[tuple[float, float]] = (),
    ) -> "Networks":
        """Fresh networks, weights drawn from torch's global generator.

        Args:
            shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings: one for
                each width and each stage but one.
            labels: label channels that the generator emits beside the image.
            latent: length of the latent.
            widths: channels of the stages, finest first.
            stem_channels: channels at half resolution behind the generator's stages, and of the
                first stem stage of the other networks.
            blocks: residual blocks a stage; the encoder has half as many.
            condition: length of an encoded condition, 0 for none; the encoder is told none.
            stem_stages: resolutions above the first residual stage; 1 puts it at half resolution.
            windows: of CT, (low, high) in HU, through which encoder and discriminator see the
                volume; none as it is.
        """
        return cls(
            Generator(
                shape, 1 + labels, latent, widths, stem_channels, blocks, condition, stem_stages
            ),
            Encoder(
                shape, 1, latent, widths, stem_channels, max(1, blocks // 2), stem_stages, windows
            ),
            Discriminator(shape, 1, widths, stem_channels, blocks, condition, stem_stages, windows),
        )

    @property
    def critic(self) -> Discriminator:
        """The discriminator, where it is needed.

        Raises:
            ModelError: E_DISCRIMINATOR when there is none.
        """
        if self.discriminator is None:
            raise ModelError(
                "E_DISCRIMINATOR", "the model", "has no discriminator, it was left out to share it",
                "use the folder that training wrote",
            )  # fmt: skip
        return self.discriminator

    def modules(self) -> dict[str, nn.Module]:
        """The networks under the names by which they are stored."""
        named = {
            "generator": self.generator,
            "encoder": self.encoder,
            "discriminator": self.discriminator,
            "localiser": self.localiser,
        }
        return {name: module for name, module in named.items() if module is not None}

    def to(self, device: torch.device) -> None:
        """Moves the networks, in the memory layout that 3D convolutions are fastest in."""
        for module in self.modules().values():
            module.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore

    def requires_grad(self, on: bool) -> None:
        """Freezes or frees all parameters."""
        for module in self.modules().values():
            module.requires_grad_(on)


def checkpoint_activations(modules: Iterable[nn.Module], on: bool) -> None:
    """Whether networks compute their activations again in the backward pass, or keep them."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, Generator | Trunk):
                part.checkpointed = on


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No parameter of these modules collects a gradient inside."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)
