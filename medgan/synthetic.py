"""Synthetic scans on disk: a Decathlon data set that a segmentation framework reads as is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medgan.data.labels import SMALLEST_COMPONENT
from medgan.files import write_atomic
from medgan.model import Model, Synthetic

MARK = "SYNTHETIC (medgan), not a patient"


def write_synthetic(
    model: Model,
    folder: Path,
    count: int,
    seed: int,
    facts: dict[str, str],
    smallest_component: float = SMALLEST_COMPONENT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Writes images, labels, `dataset.json` and `provenance.json`.

    Args:
        model: what generates.
        folder: receives `imagesTr/`, `labelsTr/` and the two JSON files.
        count: how many scans.
        seed: of the latents; scan i is the same whatever the count.
        facts: versions, for the provenance.
        smallest_component: share of a label's largest part below which a part is a speck.
        progress: told how many of how many are done.

    Returns:
        The folder.
    """
    entries: list[dict[str, str]] = []
    for scan in model.iter_generate(count, seed, smallest_component=smallest_component):
        entries.append(_write_scan(scan, folder))
        progress(len(entries), count)
    labels = model.preprocessing.labels
    dataset: dict[str, Any] = {
        "name": "Synthetic scans",
        "description": MARK,
        "tensorImageSize": "3D",
        "modality": {"0": "CT" if model.preprocessing.intensity == "ct" else "MRI"},
        "labels": {"0": "background", **{str(value): f"label {value}" for value in labels}},
        "numTraining": count,
        "numTest": 0,
        "training": entries,
        "test": [],
    }
    provenance = {
        "synthetic": True,
        "seed": seed,
        "count": count,
        "smallest_component": smallest_component,
        "model": model.facts,
        "generated_with": facts,
    }
    write_atomic(folder / "dataset.json", json.dumps(dataset, indent=1))
    write_atomic(folder / "provenance.json", json.dumps(provenance, indent=1))
    return folder


def _write_scan(scan: Synthetic, folder: Path) -> dict[str, str]:
    name = f"synthetic-s{scan.seed}-{scan.number:05d}.nii.gz"
    scan.image.save(folder / "imagesTr" / name, description=MARK)
    entry = {"image": f"./imagesTr/{name}"}
    if scan.label is not None:
        kind = np.uint8 if scan.label.data.max() < 256 else np.uint16
        label = type(scan.label)(scan.label.data.astype(kind), scan.label.affine)
        label.save(folder / "labelsTr" / name, description=MARK)
        entry["label"] = f"./labelsTr/{name}"
    return entry
