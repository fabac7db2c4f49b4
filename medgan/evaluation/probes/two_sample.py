"""A classifier of real and synthetic volumes: the classifier two-sample test."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medgan.evaluation.probes.fit import fit

WIDTHS = (16, 32, 64, 64)


class Classifier(nn.Module):
    """Volume to one logit: four convolutions, the first at full resolution, then averages.

    It shares no part with the discriminator of any generator.

    Args:
        channels: of the volumes.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (a, b) in enumerate(zip((channels, *WIDTHS[:-1]), WIDTHS, strict=True)):
            layers += [
                nn.Conv3d(a, b, 3, stride=2 if number else 1, padding=1),
                nn.BatchNorm3d(b),
                nn.LeakyReLU(0.1),
            ]
        self.trunk = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.logit = nn.Linear(WIDTHS[-1], 1)

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, " B"]:
        """Logits of class 1."""
        features = self.trunk(volume).mean(dim=(2, 3, 4))
        return self.logit(self.dropout(features)).squeeze(1)


def auroc(positive: Float[Tensor, " N"], negative: Float[Tensor, " M"]) -> float:
    """Probability that a positive scores above a negative, ties counted half."""
    difference = positive[:, None] - negative[None]
    return float(((difference > 0).double() + 0.5 * (difference == 0).double()).mean())


def separability(
    real: Float[Tensor, "N 1 X Y Z"],
    fake: Float[Tensor, "M 1 X Y Z"],
    real_test: Float[Tensor, "P 1 X Y Z"],
    fake_test: Float[Tensor, "Q 1 X Y Z"],
    seed: int,
    steps: int = 400,
    batch: int = 16,
    bf16: bool = True,
) -> float:
    """Test AUROC of a classifier trained to separate real from synthetic volumes.

    0.5 is best: the classifier finds no difference in 400 steps. 1 means that it finds one, which
    may be as small as missing noise.

    Args:
        real: real training volumes, intensities in [-1, 1], on the device to use.
        fake: synthetic training volumes.
        real_test: real volumes of other subjects.
        fake_test: other synthetic volumes.
        seed: of weights, dropout and the order of volumes.
        steps: training steps.
        batch: volumes a step, half of them real.
        bf16: autocast during training; the test is in fp32.

    Reference: Lopez-Paz and Oquab 2017, arXiv 1610.06545 (classifier two-sample test).
    """
    device = real.device
    order = torch.Generator().manual_seed(seed)
    target = (torch.arange(batch, device=device) < batch // 2).float()

    def build() -> nn.Module:
        return Classifier().to(device, memory_format=torch.channels_last_3d)  # pyright: ignore

    def draw() -> tuple[Tensor, Tensor]:
        halves = [
            volumes[torch.randint(len(volumes), (size,), generator=order).to(device)]
            for volumes, size in ((real, batch // 2), (fake, batch - batch // 2))
        ]
        return torch.cat(halves).contiguous(memory_format=torch.channels_last_3d), target

    loss = F.binary_cross_entropy_with_logits
    classifier = fit(build, draw, loss, steps, seed, device, bf16=bf16)
    with torch.no_grad():
        real_logits, fake_logits = (
            torch.cat([classifier(part) for part in volumes.split(batch)])
            for volumes in (real_test, fake_test)
        )
    return auroc(real_logits, fake_logits)


def real_floor(
    real: Float[Tensor, "N 1 X Y Z"],
    real_test: Float[Tensor, "P 1 X Y Z"],
    seed: int,
    steps: int = 400,
) -> float:
    """`separability` of real volumes from other real volumes, as a reference.

    A random half of the real training volumes, and of the real test volumes, replaces the synthetic
    ones. With few test scans it differs from 0.5 by chance: it shows by how much.

    Args:
        real: real training volumes.
        real_test: real volumes of other subjects.
        seed: of the halves and as in `separability`.
        steps: as in `separability`.
    """
    random = torch.Generator().manual_seed(seed)
    (a, b), (a_test, b_test) = (
        volumes[torch.randperm(len(volumes), generator=random).to(volumes.device)].tensor_split(2)
        for volumes in (real, real_test)
    )
    return separability(a, b, a_test, b_test, seed, steps)
