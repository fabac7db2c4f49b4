"""nnU-Net's raw data: `imagesTr/x_0000.nii.gz` with `labelsTr/x.nii.gz`, version 1 and 2."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgan.core.errors import DataError
from medgan.data.layouts.descriptions import read_dataset_json
from medgan.data.layouts.files import SUFFIXES, is_nifti, leads_out, outside, scans_below, stem
from medgan.data.layouts.label_files import warn_of_unused
from medgan.data.layouts.listed import Listed, Selection, subject_of
from medgan.data.manifest import IMAGE

CHANNEL_NUMBER = re.compile(r"_(\d{4})$")
Found = dict[tuple[str, str], tuple[list[Path], Path | None]]
"""Images and label map of each case, by its folder and name."""
PARTS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs"}


def matches(source: Path) -> bool:
    """Whether files or `dataset.json` are as nnU-Net has them.

    A `dataset.json` with lists of scans is Decathlon's. Without one, all images in `imagesTr` and
    `imagesTs` must end in a channel number. One of these two folders alone is read, too.
    """
    folder = _folder(source)
    if (folder / "dataset.json").is_file():
        values = read_dataset_json(folder)
        listed = any(isinstance(values.get(k), list) for k in ("training", "validation", "test"))
        return not listed and ("channel_names" in values or "modality" in values)
    names = [stem(p) for part in PARTS for p in scans_below(folder / part) if is_nifti(p)]
    return bool(names) and all(CHANNEL_NUMBER.search(name) for name in names)


def list_scans(source: Path, selection: Selection) -> list[Listed]:
    """One scan a case, with all channels of it.

    Raises:
        DataError: E_DATASET where images are of another format, E_CHANNEL where a channel is
            asked for that is not there.
    """
    folder = _folder(source)
    described = (folder / "dataset.json").is_file()
    values = read_dataset_json(folder) if described else {}
    ending = str(values.get("file_ending", ".nii.gz"))
    if ending.lower() not in SUFFIXES:
        raise DataError(
            "E_DATASET", "dataset.json", f"images end in {ending}, which is not read",
            "convert them to .nii.gz and correct file_ending",
        )  # fmt: skip
    parts = {source.name: PARTS[source.name]} if source.name in PARTS else PARTS
    found, led_out = _from_json({} if source.name in PARTS else values, folder)
    named = set(found)  # these may lie anywhere if their paths are absolute
    if found:
        parts = {"imagesTs": "labelsTs"}
    labels: list[Path] = []
    for images, label_folder in parts.items():
        there = {stem(p): p for p in scans_below(folder / label_folder) if is_nifti(p)}
        labels += there.values()
        for path in scans_below(folder / images):
            name = CHANNEL_NUMBER.sub("", stem(path)) if is_nifti(path) else path.name
            files, _ = found.setdefault((images, name), ([], there.get(name)))
            files.append(path)
    names = channel_names(values) or _numbered(found, selection.channels)
    listing = [
        _listed(
            key[1],
            files,
            label,
            names,
            None if key in named else folder,
            outside() if key in led_out else None,
        )
        for key, (files, label) in found.items()
    ]
    warn_of_unused(labels, [listed.label for listed in listing])
    return listing


def channel_names(values: dict[str, Any]) -> list[str]:
    """The channels that a `dataset.json` names, in order; numbers make equal names differ."""
    named = values.get("channel_names") or values.get("modality") or {}
    if not isinstance(named, dict) or not all(str(key).isdecimal() for key in named):
        return []
    ordered = [str(named[key]) for key in sorted(named, key=int)]
    counts = Counter(ordered)
    return [n if counts[n] == 1 else f"{n}_{i:04d}" for i, n in enumerate(ordered)]


def channel_files(image: Path) -> list[Path]:
    """`x_0000.nii.gz` and on beside `x.nii.gz`; none where its folder cannot be read.

    Folders below are not looked into: a name such as `/x.nii.gz` would lead through the machine.
    """
    pattern = re.compile(re.escape(stem(image)) + r"_\d{4}")
    folder = image.parent
    beside = sorted(folder.iterdir()) if folder.is_dir() and os.access(folder, os.R_OK) else []
    return [p for p in beside if is_nifti(p) and p.is_file() and pattern.fullmatch(stem(p))]


def _folder(source: Path) -> Path:
    """The folder of the whole data set."""
    return source.parent if source.is_file() or source.name in PARTS else source


def _from_json(values: dict[str, Any], folder: Path) -> tuple[Found, set[tuple[str, str]]]:
    """Files of each case under `dataset`, which names them where they lie elsewhere.

    And those whose relative paths lead out of the folder.
    """
    found: Found = {}
    led_out: set[tuple[str, str]] = set()
    try:
        for name, entry in dict(values.get("dataset", {})).items():
            images, label = [folder / image for image in entry["images"]], entry.get("label")
            named = [*zip(entry["images"], images, strict=True)]
            named += [(label, folder / label)] if label else []
            if leads_out(named, folder):
                led_out.add(("imagesTr", name))
            found["imagesTr", name] = images, folder / label if label else None
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            "E_DATASET", "dataset.json", "`dataset` does not name images and label of each case",
            "correct the file",
        ) from None  # fmt: skip
    return found, led_out


def _numbered(found: dict[Any, tuple[list[Path], Path | None]], wanted: Sequence[str]) -> list[str]:
    """Names of channels that nobody named: those that are asked for, if as many, else numbers."""
    count = max((len(files) for files, _ in found.values()), default=1)
    if len(wanted) == count:
        return list(wanted)
    return [IMAGE] if count == 1 else [f"{number:04d}" for number in range(count)]


def _listed(
    name: str,
    files: list[Path],
    label: Path | None,
    names: list[str],
    root: Path | None,
    fault: DataError | None,
) -> Listed:
    images: dict[str, Path] = {}
    for position, path in enumerate(files):
        number = CHANNEL_NUMBER.search(stem(path))
        at = int(number[1]) if number else position
        channel = names[at] if at < len(names) else f"{at:04d}"
        if channel in images or channel not in names:
            fault = DataError(
                "E_CHANNEL", "", f"channel {at} is not in dataset.json or there twice",
                "correct channel_names or remove the file",
            )  # fmt: skip
        images[channel] = path
    ordered = {channel: images[channel] for channel in names if channel in images}
    missing = tuple(channel for channel in names if channel not in images)
    return Listed(
        name, subject_of(name), ordered or images, label, root=root, missing=missing, fault=fault
    )
