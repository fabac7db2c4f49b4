"""Small 3D networks that describe a volume without anything downloaded: random or self-taught."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.seeding import seeded

WIDTHS = (16, 32, 64, 64)
_CELLS = 2
_HEAD = 64
_TEMPERATURE = 0.2
_PEAK_RATE = 2e-3


class Trunk(nn.Module):
    """Volume to features: four strided convolutions; mean and spread of each, places of the last.

    With the weights it begins with, normalisation does nothing until it has been trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(a, b, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm3d(b),
                nn.LeakyReLU(0.1),
            )
            for a, b in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        for stage in self.stages:
            nn.init.kaiming_normal_(stage[0].weight, a=0.1)  # pyright: ignore

    @property
    def length(self) -> int:
        """Features of a volume."""
        return 2 * sum(WIDTHS) + WIDTHS[-1] * _CELLS**3

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B F"]:
        """Features of each volume."""
        features, rest = [], volume
        for stage in self.stages:
            rest = stage(rest)
            features += [rest.mean(dim=(2, 3, 4)), rest.std(dim=(2, 3, 4), correction=0)]
        features.append(F.adaptive_avg_pool3d(rest, _CELLS).flatten(1))
        return torch.cat(features, dim=1)


class Ensemble(nn.Module):
    """Several trunks with random weights, their features side by side.

    Args:
        count: of trunks.

    Reference: Naeem et al. 2020, arXiv 2002.09797, section 4.1 (random embeddings where natural
        images are no measure).
    """

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(Trunk() for _ in range(count))

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B F"]:
        """Features of each volume."""
        return torch.cat([trunk(volume) for trunk in self.trunks], dim=1)


def random_ensemble(seed: int, device: torch.device) -> nn.Module:
    """The ensemble that a seed stands for, ready to extract features."""
    with seeded(seed, device):
        return Ensemble().eval().requires_grad_(False).to(device)


def taught_trunk(
    volumes: Float[Tensor, "N 1 X Y Z"], seed: int, steps: int = 300, batch: int = 32
) -> nn.Module:
    """A trunk that has learned, without labels, to tell the scans of a set from each other.

    Two views of a scan, each cut out elsewhere and with another contrast, are to be closer
    than views of two scans. Noise and sharpness are left as they are, so that the network may
    recognise a scan by them: what it is to measure must not be what it learns to ignore.

    Args:
        volumes: real scans, at least 4, intensities in [-1, 1], on the device to use.
        seed: of weights and views.
        steps: of AdamW, the learning rate rising and falling once.
        batch: scans a step.

    Reference: Chen et al. 2020, arXiv 2002.05709, eq. 1 (NT-Xent).
    """
    device, batch = volumes.device, min(batch, len(volumes))
    draw = torch.Generator().manual_seed(seed)
    with seeded(seed, device):
        trunk = Trunk().to(device)
        head = nn.Sequential(
            nn.Linear(trunk.length, _HEAD), nn.LeakyReLU(0.1), nn.Linear(_HEAD, _HEAD)
        ).to(device)
        weights = [*trunk.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(weights, _PEAK_RATE, weight_decay=1e-2)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, steps)
        for _ in range(steps):
            chosen = volumes[torch.randperm(len(volumes), generator=draw)[:batch].to(device)]
            codes = [F.normalize(head(trunk(_view(chosen, draw)))) for _ in range(2)]
            loss = contrastive_loss(*codes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    return trunk.eval().requires_grad_(False)


def contrastive_loss(a: Float[Tensor, "B F"], b: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """NT-Xent of two views of each scan; rows have length 1.

    Args:
        a: codes of the first views.
        b: codes of the second.

    Reference: Chen et al. 2020, arXiv 2002.05709, eq. 1.
    """
    both = torch.cat([a, b])
    alike = both @ both.T / _TEMPERATURE
    alike = alike.masked_fill(torch.eye(len(both), dtype=torch.bool, device=a.device), -torch.inf)
    partner = torch.arange(len(both), device=a.device).roll(len(a))
    return F.cross_entropy(alike, partner)


def _view(volumes: Tensor, draw: torch.Generator) -> Tensor:
    """The same box of seven eighths of every volume, with a contrast of each one's own."""
    spans = [(n, n - n // 8) for n in volumes.shape[2:]]
    starts = [int(torch.randint(n - kept + 1, (1,), generator=draw)) for n, kept in spans]
    x, y, z = (slice(at, at + kept) for at, (_, kept) in zip(starts, spans, strict=True))
    shape = (len(volumes), 1, 1, 1, 1)
    gain = 1 + 0.1 * (2 * torch.rand(shape, generator=draw) - 1)
    shift = 0.05 * (2 * torch.rand(shape, generator=draw) - 1)
    return volumes[:, :, x, y, z] * gain.to(volumes) + shift.to(volumes)
