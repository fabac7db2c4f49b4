"""MONAI's networks in MONAI's trainer of GANs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from medgan.core.seeding import seeded
from medgan.networks.device import fastest
from medgan.studies.baselines.blocks import stages
from medgan.studies.baselines.widths import fitted_widths

LATENT = 64
RATE, BETAS = 2e-4, (0.5, 0.999)


class MonaiGan:
    """Generator and discriminator of MONAI, with residual units as they are by default.

    The objective is the cross entropy of the first GANs. MONAI's trainer moves the discriminator,
    then the generator, once each a batch.

    Args:
        shape: (X, Y, Z), divisible by 16.
        parameters: of both networks together, about.
        seed: of the weights.
        device: where to train.

    Raises:
        ImportError: pytorch-ignite, which the trainer needs, is not installed.
    """

    def __init__(
        self, shape: tuple[int, int, int], parameters: int, seed: int, device: torch.device
    ) -> None:
        import ignite.engine  # noqa: F401 # pyright: ignore[reportMissingImports] - names it
        from monai.networks.nets.classifier import Discriminator
        from monai.networks.nets.generator import Generator

        def build(widths: list[int]) -> list[nn.Module]:
            base = [size >> len(widths) for size in shape]
            coarsest, strides = widths[-1], [2] * len(widths)
            generator = Generator([LATENT], [coarsest, *base], [*reversed(widths[:-1]), 1], strides)
            judge = Discriminator([1, *shape], widths, strides, last_act=None)
            return [nn.Sequential(generator, nn.Tanh()), judge]

        widths = fitted_widths(stages(shape), parameters, build)
        with seeded(seed, device):
            self.generator, self.discriminator = build(widths)
        for network in self.networks():
            network.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        self._device = device
        self._generating = torch.optim.Adam(self.generator.parameters(), RATE, BETAS)
        self._discriminating = torch.optim.Adam(self.discriminator.parameters(), RATE, BETAS)

    def networks(self) -> list[nn.Module]:
        """The networks that are trained."""
        return [self.generator, self.discriminator]

    def train(self, volumes: Float[Tensor, "N 1 X Y Z"], batch: int, steps: int) -> None:
        """Runs MONAI's trainer.

        Args:
            volumes: real ones, in memory; at least one batch.
            batch: volumes a step.
            steps: how many.
        """
        from monai.engines.trainer import GanTrainer

        trainer = GanTrainer(
            self._device, 1, DataLoader(volumes, batch, shuffle=True, drop_last=True),  # pyright: ignore
            self.generator, self._generating, self._fooling,
            self.discriminator, self._discriminating, self._judging,
            epoch_length=steps, latent_shape=LATENT, decollate=False, optim_set_to_none=True,
            d_prepare_batch=_moved,
        )  # fmt: skip
        with fastest(self._device):
            trainer.run()

    def _judging(self, fake: Tensor, real: Tensor) -> Tensor:
        """Loss of the discriminator."""
        logits = self.discriminator(fake.detach()), self.discriminator(real)
        return _cross_entropy(logits[0], 0.0) + _cross_entropy(logits[1], 1.0)

    def _fooling(self, fake: Tensor) -> Tensor:
        """Loss of the generator."""
        return _cross_entropy(self.discriminator(fake), 1.0)


def _cross_entropy(logits: Tensor, wanted: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, wanted).float())


def _moved(
    volume: Tensor, device: torch.device, non_blocking: bool, **_: object
) -> Float[Tensor, "B 1 X Y Z"]:
    """A batch on the device, in the memory layout that 3D convolutions are fastest in."""
    layout = torch.channels_last_3d
    return volume.to(device, memory_format=layout, non_blocking=non_blocking)
