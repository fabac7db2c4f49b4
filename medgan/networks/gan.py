"""The networks of a model, built from its configuration."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from medgan.core.errors import ModelError
from medgan.networks.blocks import Stages, Trunk
from medgan.networks.caption import CaptionEncoder
from medgan.networks.discriminator import Discriminator
from medgan.networks.encoder import Encoder
from medgan.networks.generator import Generator
from medgan.networks.localiser import Localiser
from medgan.networks.noise import Measured
from medgan.networks.restorer import Restorer
from medgan.networks.translator import Translator


class Networks:
    """The networks of a model, on one device; which there are depends on what it was trained for.

    Models that were made to be shared have no discriminator.

    Args:
        generator: latent to volume.
        encoder: volume to latent.
        discriminator: of images.
        localiser: volume to a logit for every voxel.
        restorer: corrupted volume to a healthy one.
        translator: one image to another.
        caption: words of a caption to features, for generator and discriminators.
    """

    def __init__(
        self,
        generator: Generator | None = None,
        encoder: Encoder | None = None,
        discriminator: Discriminator | None = None,
        localiser: Localiser | None = None,
        restorer: Restorer | None = None,
        translator: Translator | None = None,
        caption: CaptionEncoder | None = None,
    ) -> None:
        self._generator, self._encoder = generator, encoder
        self.translator, self.caption = translator, caption
        self.discriminator, self.localiser, self.restorer = discriminator, localiser, restorer

    @classmethod
    def build(
        cls,
        shape: tuple[int, int, int],
        labels: int,
        latent: int,
        stages: Stages,
        condition: int = 0,
        images: int = 1,
        template: tuple[Tensor, Tensor] | None = None,
        noise: Measured | None = None,
    ) -> "Networks":
        """Fresh networks, weights drawn from torch's global generator.

        Args:
            shape: (X, Y, Z) of the volume, divisible by 2 to the number of downsamplings: one for
                each width and each stage but one.
            labels: label channels that the generator emits beside the image channels.
            latent: length of the latent.
            stages: sizes of all three; the encoder has half as many blocks.
            condition: length of an encoded condition, 0 for none; the encoder has no condition.
            images: image channels.
            template: mean and standard deviation of aligned scans, each (images, X, Y, Z).
            noise: of the training scans, where it is a condition.
        """
        fewer = replace(stages, blocks=max(1, stages.blocks // 2))
        return cls(
            Generator(shape, images + labels, latent, stages, condition, template, noise, images),
            Encoder(shape, images, latent, fewer),
            Discriminator(shape, images, stages, condition),
        )

    @property
    def synthesises(self) -> bool:
        """Whether there is a generator, and with it an encoder."""
        return self._generator is not None

    @property
    def generator(self) -> Generator:
        """The generator.

        Raises:
            ModelError: E_GENERATOR when there is none.
        """
        if self._generator is None:
            raise _no_synthesis()
        return self._generator

    @property
    def encoder(self) -> Encoder:
        """The encoder.

        Raises:
            ModelError: E_GENERATOR when there is none.
        """
        if self._encoder is None:
            raise _no_synthesis()
        return self._encoder

    @property
    def needed_restorer(self) -> Restorer:
        """The restorer, where it is needed.

        Raises:
            ModelError: E_RESTORER when there is none.
        """
        if self.restorer is None:
            raise ModelError(
                "E_RESTORER", "the model", "has no restorer",
                "train one with train.task=restoration",
            )  # fmt: skip
        return self.restorer

    @property
    def needed_translator(self) -> Translator:
        """The translator, where it is needed.

        Raises:
            ModelError: E_TRANSLATOR when there is none.
        """
        if self.translator is None:
            raise ModelError(
                "E_TRANSLATOR", "the model", "does not make one image of another",
                "train one with train.task=translation",
            )  # fmt: skip
        return self.translator

    def without_discriminator(self) -> "Networks":
        """The other networks."""
        return Networks(
            self._generator, self._encoder, None, self.localiser, self.restorer, self.translator,
            self.caption,
        )  # fmt: skip

    def seen(self, condition: Tensor) -> Tensor:
        """Encoded conditions as generator and discriminators take them: a caption as features."""
        return condition if self.caption is None else self.caption(condition)

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
            "generator": self._generator,
            "encoder": self._encoder,
            "discriminator": self.discriminator,
            "localiser": self.localiser,
            "restorer": self.restorer,
            "translator": self.translator,
            "caption": self.caption,
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


def _no_synthesis() -> ModelError:
    return ModelError(
        "E_GENERATOR", "the model", "has no generator", "use a model of train.task=synthesis"
    )


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
