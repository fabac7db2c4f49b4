"""Errors of a trained restorer on held-out scans, clean and with planted lesions, and a picture.

    python docs/scripts/restoration_table.py runs/restoration restoration.png

The folder is that of `medgan train restoration`. Where scans are aligned, the mean healthy scan, as
it is bent to each, stands beside the restorer. The last table has what it changed as a score.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import medgan
from medgan.anomaly.context import ScoringContext
from medgan.anomaly.scorers import available
from medgan.core.tables import markdown_table
from medgan.data.batches import PreparedVolumes
from medgan.data.lesions import FAMILIES
from medgan.data.manifest import Manifest
from medgan.evaluation.detection.metrics import voxel_average_precision
from medgan.model.model import Model
from medgan.reporting.sample_grid import restoration_grid
from medgan.studies.detection.protocol import BATCH, all_lesions, evaluate, lesioned_scan
from medgan.studies.detection.scorers import ModelMaps
from medgan.training.restored import contrast_removed

SHOWN = 10
SCORES = ("restoration", "density", "darker", "brighter")
Way = Callable[[ScoringContext], Tensor]


@torch.inference_mode()
def made(model: Model, volumes: Tensor, ways: Mapping[str, Way]) -> dict[str, Tensor]:
    """What each way makes of volumes, (N, 1, X, Y, Z) like them."""
    networks = model.scoring_networks()
    found: dict[str, list[Tensor]] = {name: [] for name in ways}
    for part in volumes.split(BATCH):
        context = ScoringContext(part, networks)  # which bends the mean scan once for all ways
        for name, way in ways.items():
            found[name].append(way(context))
    return {name: torch.cat(parts) for name, parts in found.items()}


def main(folder: Path, image: Path) -> None:
    """Prints both tables and writes the picture."""
    model = medgan.load(str(folder / "model"))
    ways: dict[str, Way] = {
        "nothing": lambda context: context.volume,
        "restorer": lambda context: context.counterpart,
    }
    if model.preprocessing.align == "deformable":
        ways["mean scan, bent to it"] = lambda context: context.usual.mean
    cases = Manifest.load(folder / "manifest.json").split("test")
    prepared = PreparedVolumes(cases, model.preprocessing, folder / "cache")
    healthy = torch.stack([prepared[n][0] for n in range(len(prepared))])
    lesions = all_lesions(len(healthy), tuple(FAMILIES), each=2)
    planted = [lesioned_scan(healthy, lesion, seed=0) for lesion in lesions]
    corrupted = torch.from_numpy(np.stack([one.volume for one in planted]))[:, None]
    truth = np.stack([one.truth for one in planted])
    clean = healthy[[lesion.scan for lesion in lesions]]
    kept, restored = made(model, healthy, ways), made(model, corrupted, ways)
    found = {name: (kept[name], restored[name]) for name in ways}

    def inside(restored: Tensor) -> np.ndarray:
        error = (restored - clean).abs()[:, 0].numpy()
        return np.array([e[t].mean() for e, t in zip(error, truth, strict=True)])

    def removed(restored: Tensor) -> np.ndarray:
        parts = zip(clean, corrupted, restored, torch.from_numpy(truth)[:, None], strict=True)
        return np.array([contrast_removed(a[t], b[t], c[t]) for a, b, c, t in parts])

    rows = [
        (
            name, f"{removed(restored).mean():.0%}", f"{(kept - healthy).abs().mean():.4f}",
            f"{(restored - clean).abs().mean():.4f}", f"{inside(restored).mean():.3f}",
        )
        for name, (kept, restored) in found.items()
    ]  # fmt: skip
    columns = (
        "what is done", "contrast removed", "error, clean scans", "error, scans with lesions",
        "within lesions",
    )  # fmt: skip
    print(markdown_table(columns, rows), "\n")
    before, after = inside(corrupted), inside(found["restorer"][1])
    gone = removed(found["restorer"][1])
    changed = (corrupted - found["restorer"][1]).abs()[:, 0].numpy()
    everywhere = np.ones_like(truth[0])
    precision = np.array(
        [voxel_average_precision(c, t, everywhere) for c, t in zip(changed, truth, strict=True)]
    )
    kinds = {
        "all": [True] * len(lesions),
        **{family: [one.family == family for one in lesions] for family in FAMILIES},
        **{
            f"radius {radius:g} voxels": [one.radius == radius for one in lesions]
            for radius in sorted({one.radius for one in lesions})
        },
    }
    rows = [
        (
            kind, int(np.sum(chosen)), f"{gone[chosen].mean():.0%}", f"{before[chosen].mean():.3f}",
            f"{after[chosen].mean():.3f}", f"{precision[chosen].mean():.2f}",
        )
        for kind, chosen in kinds.items()
    ]  # fmt: skip
    columns = (
        "lesions", "number", "contrast removed", "error within, before", "after",
        "average precision of changes",
    )  # fmt: skip
    print(markdown_table(columns, rows))
    # Equal steps of the contrast removed, from the least to the most.
    order = np.argsort(gone)[np.linspace(0, len(lesions) - 1, SHOWN).astype(int)]
    shown = (v[order, 0].numpy() for v in (corrupted, found["restorer"][1], clean))
    restoration_grid(image, *shown, title="from the least to the most removed")
    print(scores(model, folder, healthy))


def scores(model: Model, folder: Path, healthy: Tensor) -> str:
    """AUROC and average precision of the scorers that need no generator, on planted lesions."""
    cases = Manifest.load(folder / "manifest.json").split("calibration")
    prepared = PreparedVolumes(cases, model.preprocessing, folder / "cache")
    known = torch.cat(list(prepared.batches()))
    possible = available(model.scoring_networks())
    members: dict[str, tuple[str, ...]] = {name: (name,) for name in SCORES if name in possible}
    if "density" in members:
        members["density + restoration"] = ("density", "restoration")
    lesions = all_lesions(len(healthy), tuple(FAMILIES), each=2)
    maps = ModelMaps(model, None, tuple(name for name in SCORES if name in possible))
    found = evaluate(maps, known, healthy, lesions, members)
    rows = []
    for name, one in found.items():
        figures = (one.auroc(), one.metric("average_precision"))
        rows.append((name, *(f"{f.value:.2f} ({f.low:.2f} to {f.high:.2f})" for f in figures)))
    return markdown_table(("scorer", "AUROC", "average precision"), rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
