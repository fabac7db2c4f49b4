"""Folders of small scans, and settings that train on them in a second or two."""

from pathlib import Path

import numpy as np

from medgan.core.config import Config, build
from medgan.core.volume import Volume
from tests.kit.volumes import AFFINE, SIZE, ball

TINY = {
    "data": {"spacing": [2, 2, 2], "shape": list(SIZE), "fractions": [0.35, 0.17, 0.4, 0.08]},
    "model": {"latent": 8, "widths": [16, 16], "stem_channels": 16, "blocks": 1},
    "train": {
        "volumes": 16, "batch": 2, "warmup": 4, "sample_every": 8,
    },
    "localiser": {"volumes": 16},
    "generate": {"count": 2},
    "tracking": {"uri": "none"},
}  # fmt: skip


def tiny_config(out: Path, *overrides: str) -> Config:
    """A configuration that trains in a second or two."""
    return build(TINY, [f"out={out}", *overrides])


def remove_contrast(*paths: Path) -> None:
    """Turns scans into masks: they pass the check and cannot be prepared (E_CONTRAST)."""
    for path in paths:
        scan = Volume.load(path)
        scan.like((scan.data > scan.data.mean()).astype(np.float32)).save(path)


def write_folder(folder: Path, count: int = 20, labels: bool = True, seed: int = 0) -> Path:
    """A folder of small scans `person-00.nii.gz`, with labels beside them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        data = ball(rng)
        name = f"person-{number:02d}"
        Volume(data.astype(np.float32), AFFINE).save(folder / f"{name}.nii.gz")
        if labels:
            label = (data > 60).astype(np.uint8)
            Volume(label, AFFINE).save(folder / f"{name}_label.nii.gz")
    return folder
