"""BIDS: images of subjects and sessions, with masks in derivatives and participants.tsv."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medgan.core.errors import DataError
from medgan.core.table_files import read_table
from medgan.data.layouts.files import scans_below, stem
from medgan.data.layouts.label_files import LABEL_MARK, warn_of_unused
from medgan.data.layouts.listed import Listed, Selection, subject_of
from medgan.data.manifest import IMAGE

log = logging.getLogger(__name__)
CONTRASTS = ("echo", "flip", "inv", "mt", "part")
"""Entities of BIDS that tell images of different contrast apart."""
VARIANTS = ("acq", "ce", "rec")
"""Entities of BIDS that may or may not."""
FOLDERS = ("anat", "ct", "pet")
"""Where images lie that are asked for by their suffix; `ct` is a proposal for BIDS."""


def matches(source: Path) -> bool:
    """Whether a folder is a BIDS tree, even without its description."""
    described = (source / "dataset_description.json").is_file()
    return described or ((source / "participants.tsv").is_file() and any(source.glob("sub-*/")))


def list_scans(folder: Path, selection: Selection) -> list[Listed]:
    """Images in `anat`, or of a suffix; those named as channels of a session are one scan.

    Raises:
        DataError: E_SUFFIX where there are several kinds of images and none is chosen, E_DATASET.
    """
    files = [p for p in scans_below(folder) if _top(p, folder) != "sourcedata"]
    if not selection.channels:
        return _of_kind(folder, files, selection.suffix, selection.session)
    parts = {c: _of_kind(folder, files, c, selection.session) for c in selection.channels}
    return _with_channels(parts)


def _of_kind(folder: Path, below: Sequence[Path], suffix: str, session: str) -> list[Listed]:
    files = [p for p in below if "sub-" in p.name]
    raw = [p for p in files if _top(p, folder).startswith("sub-") and p.parent.name in FOLDERS]
    every_image = [p for p in raw if not LABEL_MARK.search(stem(p))]
    images = [p for p in every_image if suffix or p.parent.name == "anat"]
    labels = _labels(files)
    every = {_entities(path) for path in every_image}
    warn_of_unused(labels.values(), [path for name, path in labels.items() if name in every])
    if session:
        images = [p for p in images if _session_of(p) == f"ses-{session.removeprefix('ses-')}"]
    if suffix:
        *wanted, kind = suffix.split("_")
        images = [p for p in images if _is_of_kind(stem(p).split("_"), wanted, kind)]
    _one_kind(images)
    # Folders that cannot be opened, and links to folders elsewhere, are to be refused.
    images += [p for p in below if _top(p, folder).startswith("sub-") and p.is_dir()]
    participants = _covariates(folder / "participants.tsv", "participant_id", "sub-")
    return [_listed(path, folder, participants, labels) for path in images]


def _one_kind(images: Sequence[Path]) -> None:
    """Refuses images of several kinds, and warns of several variants."""
    kinds = sorted({_kind(stem(p).split("_")) for p in images})
    if len(kinds) > 1:
        raise DataError(
            "E_SUFFIX", "data.source", f"several kinds of scans: {', '.join(kinds)}",
            f"choose one with --set data.suffix={kinds[0]}, or name the channels of a scan with "
            f"--set 'data.channels=[{kinds[0]}, {kinds[1]}]'",
        )  # fmt: skip
    for entity in VARIANTS:
        if len({_label_of(p, entity) for p in images}) > 1:
            log.warning(
                "scans with different %s- labels are used together: choose one with "
                "--set data.suffix=%s-LABEL_%s", entity, entity, kinds[0],
            )  # fmt: skip


def _labels(files: Sequence[Path]) -> dict[str, Path]:
    """Segmentations by the entities in their names, and where there are none, masks of a label."""
    labels: dict[str, Path] = {}
    for path in files:
        segmented = path.parent.name == "anat" and stem(path).endswith("_dseg")
        if segmented and labels.setdefault(_entities(path), path) != path:
            raise DataError(
                "E_DATASET", "derivatives", "several label maps of one name",
                "remove all but one, or list the scans in a CSV",
            )  # fmt: skip
    return _masks(files) | labels


def _masks(files: Sequence[Path]) -> dict[str, Path]:
    """`label-<label>_mask` by the other entities in their names, of scans with one such mask."""
    masks: dict[str, list[Path]] = {}
    for path in files:
        if _label_of(path, "label") and stem(path).endswith("_mask"):
            masks.setdefault(_entities(path), []).append(path)
    if several := sum(len(paths) > 1 for paths in masks.values()):
        log.warning(
            "%d scans have several masks, of which none is used: write them as one label map "
            "*_dseg, or list the scans in a CSV", several,
        )  # fmt: skip
    return {name: paths[0] for name, paths in masks.items() if len(paths) == 1}


def _listed(
    path: Path,
    folder: Path,
    participants: dict[str, dict[str, str]],
    labels: dict[str, Path],
) -> Listed:
    name = str(path.relative_to(folder)) if path.is_dir() else stem(path)
    subject = subject_of(_top(path, folder) if path.is_dir() else path.name)
    table = folder / subject / f"{subject}_sessions.tsv"
    session = _covariates(table, "session_id", "ses-").get(_session_of(path), {})
    known = participants.get(subject, {}) | {
        column: value for column, value in session.items() if value not in ("", "n/a")
    }
    label = labels.get(_entities(path))
    return Listed(name, subject, {IMAGE: path}, label, tuple(known.items()), folder)


def _with_channels(parts: dict[str, list[Listed]]) -> list[Listed]:
    """Scans of one kind each become scans with several channels: same subject and entities."""
    scans: dict[str, Listed] = {}
    twice: list[Listed] = []
    for channel, part in parts.items():
        entities = set(channel.split("_"))
        for one in part:
            parts_of_name = _without_tracer(one.name).split("_")
            shared = "_".join(p for p in parts_of_name if p not in entities)
            scan = scans.setdefault(shared, replace(one, name=shared, images={}))
            if channel in scan.images:  # .nii beside .nii.gz
                twice.append(replace(one, name=shared, images={channel: one.image}))
                continue
            images = {**scan.images, channel: one.image}
            scans[shared] = replace(scan, images=images, label=scan.label or one.label)
    complete = [
        replace(scan, missing=tuple(channel for channel in parts if channel not in scan.images))
        for _, scan in sorted(scans.items())
    ]
    return complete + twice


def _top(path: Path, folder: Path) -> str:
    return path.relative_to(folder).parts[0]


def _entities(path: Path) -> str:
    """The name without its suffix, tracer and label, as a subject's image and mask share it."""
    return _without_tracer(re.sub(r"_label-[A-Za-z0-9]+", "", stem(path).rpartition("_")[0]))


def _without_tracer(name: str) -> str:
    """The name without `trc-<label>`, which PET alone has."""
    return re.sub(r"_trc-[A-Za-z0-9]+", "", name)


def _session_of(path: Path) -> str:
    return _label_of(path, "ses")


def _label_of(path: Path, entity: str) -> str:
    match = re.search(rf"_({entity}-[A-Za-z0-9]+)", path.name)
    return match.group(1) if match else ""


def _is_of_kind(parts: list[str], wanted: list[str], suffix: str) -> bool:
    return parts[-1] == suffix and set(wanted) <= set(parts)


def _kind(parts: list[str]) -> str:
    """The suffix, after entities that make another image of it: `echo-1_MEGRE`."""
    telling = [part for part in parts[:-1] if part.partition("-")[0] in CONTRASTS]
    return "_".join([*telling, parts[-1]])


def _covariates(path: Path, key: str, prefix: str) -> dict[str, dict[str, str]]:
    """A table of BIDS by subject or session; nothing where there is none.

    The prefix of labels may be missing, as it is in many tables.
    """
    rows = read_table(path, f"the table of {prefix}*", (key,)) if path.is_file() else []
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        label = row.pop(key, "")
        name = prefix + label.removeprefix(prefix)
        if not label or name in found:
            what = f"a row without {key}" if not label else f"one {key} in two rows"
            raise DataError("E_DATASET", f"the table of {prefix}*", what, "correct the table")
        found[name] = row
    return found
