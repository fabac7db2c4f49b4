"""Small volumes: balls, head phantoms, subjects who share an anatomy."""

import numpy as np
import torch
from scipy import ndimage

from medgan.core.volume import Volume
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render

SIZE = (16, 16, 16)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def ball(rng: np.random.Generator, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    """A bright ball of random radius and place, on noise."""
    axes = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    centre = np.array(size) / 2 + rng.uniform(-1, 1, 3)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    radius = rng.uniform(4, 6)
    return 100 / (1 + np.exp(2 * (distance - radius))) + rng.normal(10, 2, size)


def layered_brain(rng: np.random.Generator) -> np.ndarray:
    """Fluid inside white matter inside grey matter in air, 16 x 16 x 16."""
    axes = np.indices(SIZE) - 7.5 + rng.uniform(-0.3, 0.3, 3)[:, None, None, None]
    radius = np.linalg.norm(axes, axis=0)
    layers = np.select([radius < 2, radius < 5, radius < 7], [40.0, 110.0, 80.0], 0.0)
    return layers + (radius < 7) * rng.normal(0, 3, SIZE)


def scans(count: int, seed: int = 0) -> list[Volume]:
    """Balls as scans of 2 mm."""
    rng = np.random.default_rng(seed)
    return [Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(count)]


def phantom_volumes(count: int, seed: int = 0) -> torch.Tensor:
    """Procedural heads (N, 1, 24, 28, 24) of 8 mm, in [-1, 1] by one window for all."""
    drawn = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image, _ = render(sample_head(rng, rng.uniform(20, 85)), (24, 28, 24), 8.0, rng)
        drawn.append(image)
    stack = np.stack(drawn)[:, None].astype(np.float32)
    return torch.from_numpy(2 * np.clip(stack / np.percentile(stack, 99.5), 0, 1) - 1)


def subjects(count: int, seed: int, size: tuple[int, int, int] = (24, 24, 24)) -> torch.Tensor:
    """One anatomy that all share, and details that are everybody's own."""
    shared = ndimage.gaussian_filter(np.random.default_rng(99).normal(size=size), 2.0)
    own = np.random.default_rng(seed).normal(size=(count, *size))
    own = ndimage.gaussian_filter(own, (0, 1.5, 1.5, 1.5))
    made = shared / shared.std() + own / own.std()
    return torch.from_numpy(made / 4).float().clamp(-1, 1)[:, None]
