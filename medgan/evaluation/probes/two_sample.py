"""Can a small network tell synthetic volumes from real ones it has not seen?"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.seeding import seeded

WIDTHS = (16, 32, 64, 64)
PEAK_RATE = 2e-3


class Judge(nn.Module):
    """Volume to one logit: four convolutions, the first at full resolution, then averages.

    Independent of every generator compared: no part of it is shared with a discriminator.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (a, b) in enumerate(zip((1, *WIDTHS[:-1]), WIDTHS, strict=True)):
            layers += [
                nn.Conv3d(a, b, 3, stride=2 if number else 1, padding=1),
                nn.BatchNorm3d(b),
                nn.LeakyReLU(0.1),
            ]
        self.trunk = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.logit = nn.Linear(WIDTHS[-1], 1)

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, " B"]:
        """Higher is more real."""
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
    """AUROC with which a network trained on `real` and `fake` tells the test sets apart.

    0.5 is perfect: nothing that this network finds in 400 steps gives the fakes away. 1 says
    that something does, which may be as small as missing noise.

    Args:
        real: real volumes to learn from, intensities in [-1, 1], on the device to use.
        fake: synthetic volumes to learn from.
        real_test: real volumes of other subjects.
        fake_test: further synthetic volumes.
        seed: of weights, dropout and the order of volumes.
        steps: of AdamW, the learning rate rising and falling once.
        batch: volumes a step, half of them real.
        bf16: autocast while it learns; it judges in fp32.

    Reference: Lopez-Paz and Oquab 2017, arXiv 1610.06545 (classifier two-sample test).
    """
    device = real.device
    order = torch.Generator().manual_seed(seed)
    target = (torch.arange(batch, device=device) < batch // 2).float()
    with seeded(seed, device):
        judge = Judge().to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        optimizer = torch.optim.AdamW(judge.parameters(), PEAK_RATE, weight_decay=1e-2)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps)
        for _ in range(steps):
            halves = [
                volumes[torch.randint(len(volumes), (size,), generator=order).to(device)]
                for volumes, size in ((real, batch // 2), (fake, batch - batch // 2))
            ]
            volume = torch.cat(halves).contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = judge(volume)
            loss = F.binary_cross_entropy_with_logits(logits.float(), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    judge.eval()
    with torch.no_grad():
        real_logits, fake_logits = (
            torch.cat([judge(part) for part in volumes.split(batch)])
            for volumes in (real_test, fake_test)
        )
    return auroc(real_logits, fake_logits)


def real_floor(
    real: Float[Tensor, "N 1 X Y Z"],
    real_test: Float[Tensor, "P 1 X Y Z"],
    seed: int,
    steps: int = 400,
) -> float:
    """`separability` of real volumes from other real ones: what it gives where nothing differs.

    One half of the real volumes, drawn by the seed, plays the fakes; so does one of the test
    set. With few test scans it strays from 0.5 by chance, which is what it is there to show.

    Args:
        real: real volumes to learn from.
        real_test: real volumes of other subjects.
        seed: of the halves and as in `separability`.
        steps: as in `separability`.
    """
    draw = torch.Generator().manual_seed(seed)
    (a, b), (a_test, b_test) = (
        volumes[torch.randperm(len(volumes), generator=draw).to(volumes.device)].tensor_split(2)
        for volumes in (real, real_test)
    )
    return separability(a, b, a_test, b_test, seed, steps)
