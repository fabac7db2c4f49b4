"""Generated data sets: synthetic scans as a Decathlon folder for segmentation frameworks."""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from medgan.core.config import Preprocessing
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.conditions import Value, check
from medgan.data.dicom.synthetic import modality_of, write_synthetic_series
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.model.hull import share_longer
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.reporting.generated import MOST_TILES, Tile, generated_page, planes_image
from medgan.workflows.explained import Explainer, plain

Entry = dict[str, str | list[str]]
"""Files of a scan in `dataset.json`."""
PAGE = "generated.html"
MARK = f"{SYNTHETIC}, not a patient"


def write_synthetic(
    model: Model,
    folder: Path,
    count: int,
    seed: int,
    facts: dict[str, str],
    conditions: Sequence[Mapping[str, Value]] = (),
    truncation: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    dicom: bool = False,
    text: str = "",
    first: int = 0,
    explain: Path | None = None,
) -> Path:
    """Writes images, labels, two JSON files, a page and, with conditions, a table.

    `covariates.csv` lists files and covariates and can be read as a data set.

    Args:
        model: the generator.
        folder: receives `imagesTr/`, `labelsTr/`, `dataset.json`, `provenance.json`, the page and
            the table.
        count: number of scans.
        seed: of the latents; scan i does not depend on the count.
        facts: versions, for the provenance.
        conditions: requested values of each scan; empty requests none.
        truncation: of the latents; 0 is off.
        progress: receives the number of scans done and of all.
        dicom: whether each image is also written as a DICOM series into `dicom/`.
        text: the sentence that the conditions were read from, for the provenance.
        first: number of the first scan.
        explain: manifest of the training, whether it is there or not, if the scans on the page are
            to be explained: nearest training scans, and what each condition changes.

    Returns:
        The folder.

    Raises:
        ConfigError: E_CONDITION for conditions that the model does not have.
    """
    conditions = conditions or [{}] * count
    groups = [(wanted, len(list(alike))) for wanted, alike in groupby(conditions)]
    remarks = [check(model.preprocessing.conditions, wanted) for wanted, _ in groups]
    preprocessing = model.preprocessing
    entries: list[Entry] = []
    rows: list[dict[str, str]] = []
    tiles: list[Tile] = []
    explainer = None if explain is None else Explainer(model, folder, explain, truncation)
    for wanted, number in groups:
        for scan in model.iter_generate(
            number, seed, first + len(entries), conditions=wanted, truncation=truncation
        ):
            entries.append(_write_scan(scan, folder))
            if dicom:
                images = image_files(scan, Path(f"synthetic-s{seed}-{scan.number:05d}.nii.gz"))
                for channel, path in images.items():
                    modality = modality_of(preprocessing.intensity_of(channel))
                    to = folder / "dicom" / path.name.removesuffix(".nii.gz")
                    write_synthetic_series(scan.images[channel], to, modality, MARK)
            rows.append(_row(scan, entries[-1]))
            if len(tiles) < MOST_TILES:
                tiles.append(_tile(model, scan, seed, wanted, truncation))
                if explainer is not None:
                    explainer.add(scan)
            progress(len(entries), count)
    labels = model.preprocessing.labels
    dataset: dict[str, Any] = {
        "name": "Synthetic scans",
        "description": MARK,
        "tensorImageSize": "3D",
        "modality": _channel_names(preprocessing),
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
        "first": first,
        "smallest_component": SMALLEST_COMPONENT,
        "truncation": truncation,
        **({"text": text} if text else {}),
        "requests": [
            {"count": number, "conditions": dict(wanted), "remarks": remark}
            for (wanted, number), remark in zip(groups, remarks, strict=True)
        ],
        "model": model.facts,
        "generated_with": facts,
    }
    write_atomic(folder / "dataset.json", json.dumps(dataset, indent=1))
    write_atomic(folder / "provenance.json", json.dumps(provenance, indent=1))
    every, compared = list(dict.fromkeys(remark for group in remarks for remark in group)), None
    if explainer is not None:
        explained, compared = explainer.finish(seed)
        pairs = zip(tiles, explained, strict=True)
        tiles = [t._replace(nearest=e.nearest, changes=e.changes) for t, e in pairs]
    page = generated_page(tiles, count, seed, text, every, bool(labels), compared)
    write_atomic(folder / PAGE, page)
    if model.preprocessing.conditions:
        write_atomic(folder / "covariates.csv", table_text(rows))
    return folder


def _tile(
    model: Model, scan: Synthetic, seed: int, wanted: Mapping[str, Value], truncation: float
) -> Tile:
    """A scan on the page; the command asks for what was asked, the rest follows from the number."""
    words = ["medgan generate MODEL -n 1", f"--seed {seed} --set generate.first={scan.number}"]
    words += [f"--set {shlex.quote(f'{name}={value}')}" for name, value in wanted.items()]
    if truncation:
        words.append(f"--set generate.truncation={truncation:g}")
    latent = model.draw(seed, scan.number, wanted, truncation)
    volumes = label_volumes(scan.label)
    labels = ", ".join(f"label {n} {mm3:,.0f} mm³" for n, mm3 in volumes.items())
    return Tile(
        f"seed {seed}, number {scan.number}", planes_image(scan.image, scan.label),
        {name: plain(value) for name, value in scan.covariates.items()},
        f"{labels}. " if labels else "", share_longer(latent.values),
        share_longer(latent.values, truncation) if truncation else None,
        " ".join([*words, "-o OUT"]),
    )  # fmt: skip


def label_volumes(label: Volume | None) -> dict[int, float]:
    """Volume in mm^3 by label value, those that the map has; empty without a map."""
    if label is None:
        return {}
    counts = np.bincount(label.data.ravel().astype(int))
    voxel = math.prod(label.spacing)
    return {n: round(int(c) * voxel, 1) for n, c in enumerate(counts) if n and c}


def _channel_names(preprocessing: Preprocessing) -> dict[str, str]:
    """Names of the channels by number; of one channel, what its intensities are."""
    if len(preprocessing.channels) > 1:
        return {str(number): name for number, name in enumerate(preprocessing.channels)}
    return {"0": "CT" if preprocessing.holds_ct else "MRI"}


def image_files(scan: Synthetic, image: Path) -> dict[str, Path]:
    """The file of each channel: `image`, or `<image>_0000` and on for several, as in nnU-Net."""
    if len(scan.images) < 2:
        return {channel: image for channel in scan.images}
    stem = image.name.removesuffix(".nii.gz")
    return {
        channel: image.with_name(f"{stem}_{number:04d}.nii.gz")
        for number, channel in enumerate(scan.images)
    }


def _row(scan: Synthetic, entry: Entry) -> dict[str, str]:
    """One row of the table: files, then covariates, unknown ones as n/a."""
    paths = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
    columns = ["image"] if len(paths) == 1 else list(scan.images)
    files = dict(zip(columns, paths, strict=True))
    if "label" in entry:
        files["label"] = str(entry["label"])
    files = {column: path.removeprefix("./") for column, path in files.items()}
    return files | {k: "n/a" if v is None else f"{v}" for k, v in scan.covariates.items()}


def _write_scan(scan: Synthetic, folder: Path) -> Entry:
    """Writes images and label map; returns the scan's entry in `dataset.json`."""
    name = f"synthetic-s{scan.seed}-{scan.number:05d}.nii.gz"
    image = folder / "imagesTr" / name
    save_synthetic(scan, image, folder / "labelsTr" / name)
    paths = [f"./imagesTr/{path.name}" for path in image_files(scan, image).values()]
    entry: Entry = {"image": paths[0] if len(paths) == 1 else paths}
    return entry if scan.label is None else entry | {"label": f"./labelsTr/{name}"}


def save_synthetic(scan: Synthetic, image: Path, label: Path) -> None:
    """Writes an image, or one a channel, and the label map, if any, marked as synthetic."""
    for channel, path in image_files(scan, image).items():
        scan.images[channel].save(path, description=MARK)
    if scan.label is not None:
        kind = np.uint8 if scan.label.data.max() < 256 else np.uint16
        values = Volume(scan.label.data.astype(kind), scan.label.affine)
        values.save(label, description=MARK)
