"""One synthetic scan: its files, its entry in a data set, what a page shows of it."""

import math
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.conditions import Value
from medgan.data.dicom.synthetic import modality_of, write_synthetic_series
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.model.generation import numbered_scan
from medgan.model.hull import share_longer
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.reporting.generated import Tile, planes_image
from medgan.workflows.executor.records import CaseRecords, Values
from medgan.workflows.explained import plain

Entry = dict[str, str | list[str]]
"""Files of a scan in `dataset.json`."""
MARK = f"{SYNTHETIC}, not a patient"


class Wanted(NamedTuple):
    """A scan to generate.

    Attributes:
        number: of the seed.
        conditions: requested values.
        shown: whether it is on the page.
    """

    number: int
    conditions: Mapping[str, Value]
    shown: bool


@dataclass(frozen=True)
class GenerateWork:
    """Writes a synthetic scan. The item of a task is `Wanted`.

    Attributes:
        records: of the scans, in their folder.
        seed: of the latents.
        truncation: of them.
        dicom: whether it is written as a DICOM series, too.
    """

    records: CaseRecords
    seed: int
    truncation: float
    dicom: bool

    def scan(self, model: Model, item: Wanted) -> Synthetic:
        """The scan, without its files."""
        latent = model.draw(self.seed, item.number, item.conditions, self.truncation)
        return numbered_scan(model, latent, self.seed, item.number, SMALLEST_COMPONENT)

    def __call__(self, model: Model, item: Wanted) -> tuple[Values, list[str]]:
        """Its entry in `dataset.json`, its row of the table, what the page shows of it."""
        scan, folder = self.scan(model, item), self.records.folder
        entry = _write_scan(scan, folder)
        if self.dicom:
            images = image_files(scan, Path(f"{name_of(self.seed, scan.number)}.nii.gz"))
            for channel, path in images.items():
                modality = modality_of(model.preprocessing.intensity_of(channel))
                to = folder / "dicom" / path.name.removesuffix(".nii.gz")
                shutil.rmtree(to, ignore_errors=True)  # of a run that was killed
                write_synthetic_series(scan.images[channel], to, modality, MARK)
        tile = None
        if item.shown:
            tile = _tile(model, scan, self.seed, item.conditions, self.truncation)
        files = [path.removeprefix("./") for path in _paths(entry)]
        files += [str(entry["label"]).removeprefix("./")] if "label" in entry else []
        values = {"entry": entry, "row": _row(scan, entry)}
        return values | ({"tile": tile._asdict()} if tile else {}), files


def name_of(seed: int, number: int) -> str:
    """The name of a scan and of its files."""
    return f"synthetic-s{seed}-{number:05d}"


def _paths(entry: Entry) -> list[str]:
    """Of the images of an entry."""
    return entry["image"] if isinstance(entry["image"], list) else [entry["image"]]


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
    paths = _paths(entry)
    columns = ["image"] if len(paths) == 1 else list(scan.images)
    files = dict(zip(columns, paths, strict=True))
    if "label" in entry:
        files["label"] = str(entry["label"])
    files = {column: path.removeprefix("./") for column, path in files.items()}
    return files | {k: "n/a" if v is None else f"{v}" for k, v in scan.covariates.items()}


def _write_scan(scan: Synthetic, folder: Path) -> Entry:
    """Writes images and label map; returns the scan's entry in `dataset.json`."""
    assert scan.seed is not None
    name = f"{name_of(scan.seed, scan.number)}.nii.gz"
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
