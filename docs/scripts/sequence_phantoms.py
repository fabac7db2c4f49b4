"""Sequences of a beating ball, and how well a model of them draws the beat.

python docs/scripts/sequence_phantoms.py make runs/beats/scans
medgan train sequence --data runs/beats/scans -o runs/beats/run (settings: docs/how-to/sequences.md)
python docs/scripts/sequence_phantoms.py measure runs/beats/run/model [TRUNCATION]
"""

import sys
from pathlib import Path

import numpy as np

from medgan.core.tables import markdown_table
from medgan.core.volume import Volume, save_frames
from medgan.model.model import Model
from medgan.model.series import series

SUBJECTS, PHASES, SIZE, SPACING = 60, 12, 32, 3.0
SECONDS = 0.9
"""Of a beat."""
BODY, BALL, BONE, NOISE = 300.0, 700.0, 1000.0, 8.0
SYSTOLE, LACKING = 0.35, 0.45
"""When the ball is smallest, as a share of the beat, and the share of its volume that it lacks."""
DRAWN = 24
"""Sequences that are drawn, and true ones that they are compared with."""
PLACES = (np.moveaxis(np.indices((SIZE,) * 3), 0, -1) - (SIZE - 1) / 2) * SPACING
"""Of the voxels, in mm from the middle."""
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])


def share_of_volume(phase: np.ndarray) -> np.ndarray:
    """Volume of the ball over the phase, 1 at rest: it shrinks faster than it grows."""
    turn = np.interp(phase % 1, (0, SYSTOLE, 1), (0, 0.5, 1))
    return 1 - LACKING * np.sin(np.pi * turn) ** 2


def beat(rng: np.random.Generator, phases: int, noise: float) -> tuple[list[Volume], np.ndarray]:
    """Frames of a body with a bone at rest and a ball that beats, and the ball's volumes in ml."""
    body = _inside(rng.uniform(-3, 3, 3), np.array([42, 36, 42]) * rng.uniform(0.9, 1.05, 3))
    bone = _inside(rng.uniform(-3, 3, 3) - (33, 0, 0), 7 * rng.uniform(0.8, 1.2, 3))
    centre, radius = rng.uniform(-3, 3, 3), rng.uniform(13, 18)
    still = BODY * body
    still += (BONE - still) * bone
    shares = share_of_volume(np.arange(phases) / phases)
    frames = []
    for share in shares:
        image = still + (BALL - still) * _inside(centre, np.full(3, radius * share ** (1 / 3)))
        image = np.abs(image + rng.normal(0, noise, image.shape)) if noise else image
        frames.append(Volume(np.round(image).astype(np.int16), AFFINE))
    return frames, 4 / 3 * np.pi * radius**3 * shares / 1000


def _inside(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Share of each voxel inside of an ellipsoid, smooth over a voxel's width; (X, Y, Z)."""
    distance = np.linalg.norm((PLACES - centre) / radii, axis=-1)
    return np.clip(0.5 + (1 - distance) * radii.min() / SPACING, 0, 1)


def make(folder: Path) -> None:
    """Writes a 4D file for each subject."""
    for number in range(SUBJECTS):
        frames, _ = beat(np.random.default_rng([7, number]), PHASES, NOISE)
        save_frames(frames, folder / f"beat-{number:02d}.nii.gz", 0.0, SECONDS / PHASES)


def ball_ml(frame: np.ndarray) -> float:
    """Volume of the ball in a frame (X, Y, Z) of any intensities.

    Every voxel near the middle counts by how far it is on its way from the body's to the ball's
    intensity, so that voxels at the rim count in part and noise cancels out.
    """
    away = np.linalg.norm(PLACES, axis=-1)
    near = (away < 26) & (PLACES[..., 0] > -21)
    body = np.median(frame[near & (away > 24)])
    ball = np.median(frame[away < 5])
    return float(((frame - body) / (ball - body))[near].sum()) * SPACING**3 / 1000


def off_the_curve(volumes: np.ndarray) -> float:
    """Mean distance of volumes (T,) from the true curve of their own size, as a share of it."""
    curve = share_of_volume(np.arange(len(volumes)) / len(volumes))
    curve = curve * (volumes @ curve) / (curve @ curve)
    return float(np.mean(np.abs(volumes - curve) / curve))


def moves(frames: np.ndarray) -> tuple[float, float]:
    """Mean absolute change from a frame (T, X, Y, Z) to the next, and change of that change."""
    steps = np.diff(np.concatenate([frames, frames[:2]]), axis=0)
    return float(np.abs(steps[:-1]).mean()), float(np.abs(np.diff(steps, axis=0)).mean())


def measure(model: Model, truncation: float = 0.0) -> None:
    """Prints a table of drawn sequences beside true ones, which no training saw."""
    rows: dict[str, list[tuple[float, ...]]] = {"true": [], "true, no noise": [], "drawn": []}
    for number in range(DRAWN):
        for name, noise in (("true", NOISE), ("true, no noise", 0.0)):
            scans, truth = beat(np.random.default_rng([8, number]), PHASES, noise)
            frames = np.stack([model.prepare(scan).volume[0].numpy() for scan in scans])
            volumes = np.array([ball_ml(frame) for frame in frames])
            error = float(np.mean(np.abs(volumes - truth) / truth))
            rows[name].append((off_the_curve(volumes), volumes.max(), *moves(frames), error))
        values = [phase / PHASES for phase in range(PHASES)]
        found = series(model, model.draw(0, number, truncation=truncation), "phase", values)
        frames = np.stack([frame.volume[0].numpy() for frame in found.frames])
        volumes = np.array([ball_ml(frame) for frame in frames])
        rows["drawn"].append((off_the_curve(volumes), volumes.max(), *moves(frames), np.nan))
    columns = (
        "sequences",
        "off the curve (median, most)",
        "largest ml",
        "step",
        "change of step",
        "off truth",
    )
    table = [
        (name, f"{np.mean(r[:, 0]):.1%} ({np.median(r[:, 0]):.1%}, {np.max(r[:, 0]):.1%})",
         f"{r[:, 1].mean():.1f} ± {r[:, 1].std():.1f}", *(f"{m:.4f}" for m in r[:, 2:4].mean(0)),
         "" if np.isnan(r[:, 4]).any() else f"{r[:, 4].mean():.1%}")
        for name, r in ((name, np.array(found)) for name, found in rows.items())
    ]  # fmt: skip
    print(markdown_table(columns, table))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        measure(Model.load(Path(sys.argv[2])), *map(float, sys.argv[3:]))
