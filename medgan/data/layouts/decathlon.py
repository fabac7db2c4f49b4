"""`dataset.json` with lists of scans: the Medical Segmentation Decathlon, MONAI, medgan's own."""

from pathlib import Path
from typing import Any

from medgan.core.errors import DataError
from medgan.data.layouts.descriptions import read_dataset_json
from medgan.data.layouts.files import leads_out, outside, scans_below, stem
from medgan.data.layouts.label_files import LABEL_FOLDERS, warn_of_unused
from medgan.data.layouts.listed import Listed, Selection, subject_of
from medgan.data.layouts.nnunet import CHANNEL_NUMBER, channel_files, channel_names
from medgan.data.manifest import IMAGE

LISTS = ("training", "validation", "test", "unlabelled")
"""Lists of scans in a `dataset.json`: Decathlon's, MONAI's, and what medgan adds to them."""


def matches(source: Path) -> bool:
    """Whether this is a `dataset.json` or its folder."""
    return source.name == "dataset.json" or (source / "dataset.json").is_file()


def list_scans(source: Path, selection: Selection) -> list[Listed]:
    """The scans in the lists; several images of an entry are its channels.

    Where nnU-Net's first version lists `x.nii.gz`, the files `x_0000.nii.gz` and on are meant.

    Raises:
        DataError: E_DATASET where the file cannot be read or names no images.
    """
    del selection
    folder = source.parent if source.is_file() else source
    values = read_dataset_json(folder)
    try:
        names = channel_names(values)
        entries = [entry for name in LISTS for entry in values.get(name, [])]
        listing = [_listed(entry, folder, names) for entry in entries]
        labels = [one.label and one.label.resolve() for one in listing]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise DataError(
            "E_DATASET", "dataset.json", "no list `training` of image and label paths",
            "correct the file",
        ) from None  # fmt: skip
    there = [p for name in LABEL_FOLDERS for p in scans_below(folder / name) if p.is_file()]
    warn_of_unused(map(Path.resolve, there), labels)
    return listing


def _listed(entry: Any, folder: Path, names: list[str]) -> Listed:  # noqa: ANN401 - JSON
    row = entry if isinstance(entry, dict) else {"image": entry}
    images = row["image"] if isinstance(row["image"], list) else [row["image"]]
    paths = [folder / image for image in images]
    if len(paths) == 1 and not paths[0].exists():
        paths = channel_files(paths[0]) or paths
    if len(paths) == 1 and len(names) < 2:
        files, missing = {IMAGE: paths[0]}, ()
    else:
        known = [*names, *(f"{n:04d}" for n in range(len(names), len(paths)))]
        files, missing = dict(zip(known, paths, strict=False)), tuple(known[len(paths) :])
    label = row.get("label")
    spelled = images if len(images) == len(paths) else images * len(paths)
    named = [*zip(spelled, paths, strict=True), *([(label, folder / label)] if label else [])]
    first = stem(paths[0])
    name = str(row.get("case") or (CHANNEL_NUMBER.sub("", first) if len(paths) > 1 else first))
    return Listed(
        name, str(row.get("subject") or subject_of(name)), files,
        folder / label if label else None,
        (("synthetic", "yes"),) if row.get("synthetic") is True else (), missing=missing,
        fault=outside() if leads_out(named, folder) else None,
    )  # fmt: skip
