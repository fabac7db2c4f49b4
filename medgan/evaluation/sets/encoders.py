"""Small 3D encoders of volumes without downloads: with random weights or self-supervised."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.seeding import seeded
from medgan.evaluation.probes.fit import fit

WIDTHS = (16, 32, 64, 64)
_CELLS = 2
_HEAD = 64
_TEMPERATURE = 0.2


class ConvEncoder(nn.Module):
    """Volume to features: four strided convolutions.

    The features are mean and standard deviation of each layer's channels, and the last layer on a
    coarse grid. With its initial weights, normalisation changes nothing.
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
    """Several encoders with random weights; their features are concatenated.

    Args:
        count: of encoders.

    Reference: Naeem et al. 2020, arXiv 2002.09797, section 4.1 (random embeddings where natural
        images are no measure).
    """

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(ConvEncoder() for _ in range(count))

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B F"]:
        """Features of each volume."""
        return torch.cat([encoder(volume) for encoder in self.encoders], dim=1)


def random_ensemble(seed: int, device: torch.device) -> nn.Module:
    """The ensemble of a seed, in evaluation."""
    with seeded(seed, device):
        return Ensemble().eval().requires_grad_(False).to(device)


class _Projected(nn.Module):
    """An encoder with the projection head that only its training needs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConvEncoder()
        self.head = nn.Sequential(
            nn.Linear(self.encoder.length, _HEAD), nn.LeakyReLU(0.1), nn.Linear(_HEAD, _HEAD)
        )

    def forward(self, views: Float[Tensor, "V B 1 X Y Z"]) -> Float[Tensor, "V B F"]:
        """Codes of length 1; each view is normalised by its own batch statistics."""
        return torch.stack([F.normalize(self.head(self.encoder(view))) for view in views])


def train_encoder(
    volumes: Float[Tensor, "N 1 X Y Z"], seed: int, steps: int = 300, batch: int = 32
) -> nn.Module:
    """An encoder trained by self-supervision: two views of a scan get similar codes.

    Views differ in position and contrast. Noise and sharpness are not augmented: features must stay
    sensitive to what they are to measure.

    Args:
        volumes: real scans, at least 4, intensities in [-1, 1], on the device to use.
        seed: of weights and views.
        steps: training steps.
        batch: scans a step.

    Reference: Chen et al. 2020, arXiv 2002.05709, eq. 1 (NT-Xent).
    """
    device, batch = volumes.device, min(batch, len(volumes))
    random = torch.Generator().manual_seed(seed)
    unused = torch.empty(0, device=device)

    def draw() -> tuple[Tensor, Tensor]:
        chosen = volumes[torch.randperm(len(volumes), generator=random)[:batch].to(device)]
        return torch.stack([_view(chosen, random) for _ in range(2)]), unused

    def loss(codes: Tensor, targets: Tensor) -> Tensor:
        return contrastive_loss(*codes)

    trained = fit(lambda: _Projected().to(device), draw, loss, steps, seed, device, bf16=False)
    assert isinstance(trained, _Projected)
    return trained.encoder.requires_grad_(False)


def contrastive_loss(a: Float[Tensor, "B F"], b: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """NT-Xent loss of two views of each scan; rows have length 1.

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


def _view(volumes: Tensor, random: torch.Generator) -> Tensor:
    """A random crop of seven eighths, the same for all volumes, and a random contrast for each."""
    spans = [(n, n - n // 8) for n in volumes.shape[2:]]
    starts = [int(torch.randint(n - kept + 1, (1,), generator=random)) for n, kept in spans]
    x, y, z = (slice(at, at + kept) for at, (_, kept) in zip(starts, spans, strict=True))
    shape = (len(volumes), 1, 1, 1, 1)
    gain = 1 + 0.1 * (2 * torch.rand(shape, generator=random) - 1)
    shift = 0.05 * (2 * torch.rand(shape, generator=random) - 1)
    return volumes[:, :, x, y, z] * gain.to(volumes) + shift.to(volumes)
