"""Small data sets and configurations that several tests build on."""

from pathlib import Path

import numpy as np
import torch

from medgan.core.config import Config, Preprocessing, build
from medgan.core.volume import Volume
from medgan.data.batches import Batch
from medgan.data.phantoms.heads import draw_head, render
from medgan.training.state import TrainingState
from medgan.training.steps import average_step, discriminator_step, generator_step

SIZE = (16, 16, 16)
TINY = {
    "data": {"spacing": [2, 2, 2], "shape": list(SIZE), "fractions": [0.5, 0.4, 0.1]},
    "model": {"latent": 8, "widths": [16, 16], "stem_channels": 16, "blocks": 1},
    "train": {
        "volumes": 16, "batch": 2, "warmup": 4, "checkpoint_every": 4, "sample_every": 8,
    },
    "localiser": {"volumes": 16},
    "generate": {"count": 2},
    "tracking": {"uri": "none"},
}  # fmt: skip


def tiny_config(out: Path, *overrides: str) -> Config:
    """A configuration that trains in a second or two."""
    return build(TINY, [f"out={out}", *overrides])


def ball(rng: np.random.Generator, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    """A bright ball of random radius and place, on noise."""
    axes = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    centre = np.array(size) / 2 + rng.uniform(-1, 1, 3)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    radius = rng.uniform(4, 6)
    return 100 / (1 + np.exp(2 * (distance - radius))) + rng.normal(10, 2, size)


def phantom_volumes(count: int, seed: int = 0) -> torch.Tensor:
    """Procedural heads (N, 1, 24, 28, 24) of 8 mm, in [-1, 1] by one window for all."""
    drawn = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image, _ = render(draw_head(rng, rng.uniform(20, 85)), (24, 28, 24), 8.0, rng)
        drawn.append(image)
    stack = np.stack(drawn)[:, None].astype(np.float32)
    return torch.from_numpy(2 * np.clip(stack / np.percentile(stack, 99.5), 0, 1) - 1)


def write_folder(folder: Path, count: int = 20, labels: bool = True, seed: int = 0) -> Path:
    """A folder of small scans `person-00.nii.gz`, with labels beside them."""
    rng = np.random.default_rng(seed)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = ball(rng)
        name = f"person-{number:02d}"
        Volume(data.astype(np.float32), affine).save(folder / f"{name}.nii.gz")
        if labels:
            label = (data > 60).astype(np.uint8)
            Volume(label, affine).save(folder / f"{name}_label.nii.gz")
    return folder


CONFIG = build(TINY)
GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), labels=(1,))


def fresh_state(seed: int = 0, **sizes: object) -> TrainingState:
    """A tiny training at its start, labels learned."""
    model = CONFIG.model.model_copy(update=sizes)
    train = CONFIG.train.model_copy(update={"seed": seed})
    return TrainingState.fresh(GRID, model, train, torch.device("cpu"))


def advance(state: TrainingState, steps: int) -> None:
    """Trains on random batches that depend on the position alone."""
    for _ in range(steps):
        random = torch.Generator().manual_seed(state.volumes_seen)
        batch = Batch(
            torch.rand(2, 1, 16, 16, 16, generator=random) * 2 - 1,
            torch.rand(2, 1, 16, 16, 16, generator=random) * 2 - 1,
            torch.tensor([True, False]),
            torch.zeros(2, 0),
        )
        discriminator_step(state, batch, CONFIG.train)
        generator_step(state, batch, CONFIG.train)
        average_step(state, CONFIG.train)
