"""How data sets lie on disk: folders of NIfTI or DICOM, Decathlon, BIDS, a CSV become a listing."""

import csv
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.core.errors import DataError
from medgan.data.dicom.frames import looks_like_dicom
from medgan.data.dicom.series import Series
from medgan.data.manifest import IMAGE

log = logging.getLogger(__name__)
SUFFIXES = (".nii", ".nii.gz")
LABEL_MARK = re.compile(r"[_-](label|labels|seg|dseg|mask)$")
IMAGE_FOLDERS = ("images", "anat", "ses-")
LABEL_FOLDERS = ("labels", "labelsTr", "labelsTs")
DECATHLON_LISTS = ("training", "validation", "test", "unlabelled")
"""Lists of scans in a `dataset.json`: Decathlon's, MONAI's, and what medgan adds to them."""
CONTRASTS = ("echo", "flip", "inv", "mt", "part")
"""Entities of BIDS that tell images apart which look different."""
VARIANTS = ("acq", "ce", "rec")
"""Entities of BIDS that may or may not."""
LICENCE_LENGTH = 80
"""Enough for a name; what is longer is somebody's prose."""


@dataclass(frozen=True)
class Listed:
    """One scan as a data set names it, before anything is read; this never leaves the index.

    Attributes:
        name, subject: as the data set spells them; no subject where DICOM headers say it.
        images: absolute path of each image channel by its name, in order; the only one may be a
            folder of DICOM, or a file of a series.
        label: absolute path.
        covariates: column and value.
        root: folder that scanning found it in, which links must not lead out of.
        series: what a DICOM image turned out to be.
        fault: why a DICOM file can be assigned to no series.
        missing: names of channels that the data set has and this scan lacks.
    """

    name: str
    subject: str
    images: dict[str, Path]
    label: Path | None = None
    covariates: tuple[tuple[str, str], ...] = ()
    root: Path | None = None
    series: Series | None = None
    fault: DataError | None = None
    missing: tuple[str, ...] = ()

    @property
    def image(self) -> Path:
        """The first channel; of a scan that lacks all of them, nothing."""
        return next(iter(self.images.values()), Path())

    def with_image(self, path: Path) -> "Listed":
        """The same scan of one channel from another file."""
        return replace(self, images={next(iter(self.images)): path})


def list_scans(
    source: Path, suffix: str = "", session: str = "", channels: Sequence[str] = ()
) -> list[Listed]:
    """The scans that a data set names, unread.

    Args:
        source: the data set.
        suffix: of BIDS files, such as T1w or echo-1_MEGRE; needed where a tree holds several.
        session: of a BIDS tree to list; empty is all.
        channels: image channels in order, as the layout names them; empty is one.

    Raises:
        DataError: E_NO_SCANS, E_LAYOUT, E_MIXED, E_DATASET, E_SUFFIX.
    """
    source = source.resolve()
    if source.name.upper() == "DICOMDIR" and source.is_file():
        source = source.parent  # what it is an index of
    if not source.exists():
        raise DataError("E_NO_SCANS", "data.source", "does not exist", "check the path")
    if source.is_file() and is_nifti(source):
        return [Listed(stem(source), _subject_of(stem(source)), {IMAGE: source})]
    if source.is_file() and source.suffix in (".csv", ".tsv"):
        listing = _from_table(source, channels)
    elif source.name == "dataset.json" or (source / "dataset.json").is_file():
        listing = _from_decathlon(source.parent if source.is_file() else source)
    elif _is_bids(source):
        listing = _from_bids(source, suffix, session, channels)
    elif source.is_dir():
        listing = _from_folder(source)
    elif looks_like_dicom(source):
        listing = [Listed(source.name, "", {IMAGE: source})]
    else:
        raise DataError(
            "E_LAYOUT", "data.source", "no layout that is known",
            "give a folder of NIfTI or DICOM files, a Decathlon or BIDS folder, or a CSV",
        )  # fmt: skip
    if not listing:
        raise no_scans()
    if not channels or all(tuple(listed.images) == tuple(channels) for listed in listing):
        return listing
    if len(channels) == 1:  # what it is called where it is the only one
        return [
            replace(one, images=dict(zip(channels, one.images.values(), strict=False)))
            for one in listing
        ]
    if any(listed.missing for listed in listing):
        return listing
    raise DataError(
        "E_CHANNEL", "data.channels", "this layout holds one image a scan",
        "list the scans in a CSV with a column for each channel",
    )  # fmt: skip


def no_scans() -> DataError:
    """The error of a data set of which nothing is there, or nothing was asked for."""
    remedy = "check the folder, data.subjects and data.session"
    return DataError("E_NO_SCANS", "data.source", "no scan found", remedy)


def licence_of(source: Path) -> str:
    """The licence that a Decathlon or BIDS folder names for itself, else nothing."""
    folder = source if source.is_dir() else source.parent
    for name, key in (("dataset.json", "licence"), ("dataset_description.json", "License")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            text = json.loads((folder / name).read_text(encoding="utf-8"))[key]
            return " ".join(str(text).split())[:LICENCE_LENGTH]
    return ""


def is_manifest(source: Path) -> bool:
    """Whether a source is the `manifest.json` that a check or a training wrote."""
    return source.is_file() and source.suffix == ".json" and source.name != "dataset.json"


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI file by its name."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def files_below(folder: Path) -> list[Path]:
    """Files in a folder and below, without hidden ones.

    A folder that may not be entered, or is a link that leads out of here, is in the list itself:
    it stands for scans that nobody sees, and is to be refused.
    """
    root = folder.resolve()
    found: list[Path] = []

    def note(error: OSError) -> None:
        found.append(Path(error.filename))

    for place, folders, names in os.walk(folder, onerror=note):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [here / name for name in folders if (here / name).is_symlink()]
        found += [path for path in linked if not inside(path, root)]
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(found)


def _scans_below(folder: Path) -> list[Path]:
    """Scans; a link that leads nowhere or away is listed, to be refused later."""
    return [
        path
        for path in files_below(folder)
        if path.is_dir() or (is_nifti(path) and (path.is_file() or path.is_symlink()))
    ]


def inside(path: Path, root: Path) -> bool:
    """Whether a file is in a folder, or in the git-annex that keeps the folder's contents."""
    target = Path(os.path.realpath(path))
    annexes = (parent / ".git" / "annex" for parent in root.parents)
    return any(target.is_relative_to(place) for place in (root, *annexes))


def _from_folder(folder: Path) -> list[Listed]:
    """Lists images anywhere below a folder, with their labels.

    Labels are `<image>_label` (`_seg`, `_dseg`, `_mask`) beside the image, or have its name in a
    folder `labels` (Decathlon's `labelsTr`) beside that of the image.
    """
    files = _scans_below(folder)
    labels = {
        p
        for p in files
        if LABEL_MARK.search(stem(p)) or (p.parent.name in LABEL_FOLDERS and p.parent != folder)
    }
    by_place = {(p.parent, LABEL_MARK.sub("", stem(p))): p for p in labels}
    images = [path for path in files if path not in labels]
    if _holds_dicom(folder):
        if any(map(is_nifti, files)):  # often the same scans twice, which no split may tear apart
            raise DataError(
                "E_MIXED", "the data folder", "holds NIfTI and DICOM files",
                "name a folder of one kind, or list the scans in a CSV",
            )  # fmt: skip
        return [Listed(folder.name, "", {IMAGE: folder}, root=folder)]
    base = Path(os.path.commonpath([path.parent for path in images])) if images else folder
    listing = []
    for path in images:
        name = stem(path)
        beside = by_place.get((path.parent, name))
        across = [by_place.get((path.parent.parent / d, name)) for d in LABEL_FOLDERS]
        label = next((p for p in (beside, *across) if p is not None), None)
        unique = str(path.relative_to(folder).with_name(name))
        listing.append(Listed(unique, _subject_at(path, base), {IMAGE: path}, label, root=folder))
    return _shorten_names(listing)


def _holds_dicom(folder: Path) -> bool:
    return any(looks_like_dicom(path) for path in files_below(folder) if not is_nifti(path))


def _shorten_names(listing: list[Listed]) -> list[Listed]:
    """Plain file names where they are unique, so that every layout names a scan alike."""
    plain = [Path(listed.name).name for listed in listing]
    if len(set(plain)) < len(plain):
        return listing
    return [replace(listed, name=name) for listed, name in zip(listing, plain, strict=True)]


def _subject_at(path: Path, base: Path) -> str:
    """Whose scan a file in a folder is.

    `sub-<label>` in its name says so; else, in a folder of folders, the topmost one: scans that
    lie together are never torn apart by a split. In a flat folder every file is a subject.
    """
    name = stem(path)
    folders = [
        part for part in path.relative_to(base).parts[:-1] if not part.startswith(IMAGE_FOLDERS)
    ]
    if folders and not name.startswith("sub-"):
        return _subject_of(folders[0])
    return _subject_of(name)


def _subject_of(name: str) -> str:
    match = re.match(r"(sub-[A-Za-z0-9]+)", name)
    return match.group(1) if match else name


def _from_decathlon(folder: Path) -> list[Listed]:
    try:
        values = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        entries = [entry for name in DECATHLON_LISTS for entry in values.get(name, [])]
        listing = []
        for entry in entries:
            row = entry if isinstance(entry, dict) else {"image": entry}
            image = folder / row["image"]
            label = folder / row["label"] if row.get("label") else None
            name = str(row.get("case") or stem(image))
            subject = str(row.get("subject") or _subject_of(name))
            drawn = (("synthetic", "yes"),) if row.get("synthetic") is True else ()
            listing.append(Listed(name, subject, {IMAGE: image}, label, drawn))
        return listing
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            "E_DATASET", "dataset.json", "no list `training` of image and label paths", "mend it"
        ) from None


def _is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS tree; its description is forgotten at times."""
    described = (folder / "dataset_description.json").is_file()
    return described or ((folder / "participants.tsv").is_file() and any(folder.glob("sub-*/")))


def _from_bids(
    folder: Path, suffix: str, session: str, channels: Sequence[str] = ()
) -> list[Listed]:
    if channels:
        parts = [_from_bids(folder, channel, session) for channel in channels]
        return _as_channels(channels, parts)
    people = _covariates(folder / "participants.tsv", "participant_id", "sub-")
    below = [p for p in _scans_below(folder) if _top(p, folder) != "sourcedata"]
    files = [p for p in below if p.parent.name == "anat" and "sub-" in p.name]
    raw = [p for p in files if _top(p, folder).startswith("sub-")]
    images = [p for p in raw if not LABEL_MARK.search(stem(p))]
    if session:
        images = [p for p in images if _session_of(p) == f"ses-{session.removeprefix('ses-')}"]
    if suffix:
        *wanted, kind = suffix.split("_")
        images = [p for p in images if _is_of_kind(stem(p).split("_"), wanted, kind)]
    kinds = {_kind(stem(p).split("_")) for p in images}
    if len(kinds) > 1:
        raise DataError(
            "E_SUFFIX", "data.source", f"several kinds of scans: {', '.join(sorted(kinds))}",
            f"choose one with --set data.suffix={min(kinds)}",
        )  # fmt: skip
    for entity in VARIANTS:
        if len({_label_of(p, entity) for p in images}) > 1:
            log.warning(
                "scans with different %s- labels are used together: choose one with "
                "--set data.suffix=%s-LABEL_%s", entity, entity, min(kinds),
            )  # fmt: skip
    # Shut folders, and links to folders elsewhere, are to be refused.
    images += [p for p in below if _top(p, folder).startswith("sub-") and p.is_dir()]
    labels: dict[str, Path] = {}
    for path in files:
        entities, _, kind = stem(path).rpartition("_")
        if kind == "dseg" and labels.setdefault(entities, path) != path:
            raise DataError(
                "E_DATASET", "derivatives", "several label maps of one name",
                "remove all but one, or list the scans in a CSV",
            )  # fmt: skip
    listing = []
    for path in images:
        entities = stem(path).rsplit("_", 1)[0]
        name = str(path.relative_to(folder)) if path.is_dir() else stem(path)
        subject = _subject_of(_top(path, folder) if path.is_dir() else path.name)
        tables = folder / subject / f"{subject}_sessions.tsv"
        sessions = _covariates(tables, "session_id", "ses-")
        then = sessions.get(_session_of(path), {})
        known = people.get(subject, {}) | {k: v for k, v in then.items() if v not in ("", "n/a")}
        listing.append(
            Listed(name, subject, {IMAGE: path}, labels.get(entities), tuple(known.items()), folder)
        )
    return listing


def _as_channels(channels: Sequence[str], parts: Sequence[Sequence[Listed]]) -> list[Listed]:
    """Scans of one kind each become scans with several channels: same subject and entities."""
    scans: dict[str, Listed] = {}
    for channel, part in zip(channels, parts, strict=True):
        entities = set(channel.split("_"))
        for one in part:
            shared = "_".join(p for p in one.name.split("_") if p not in entities)
            scan = scans.setdefault(shared, replace(one, name=shared, images={}))
            label = scan.label or one.label
            scans[shared] = replace(scan, images={**scan.images, channel: one.image}, label=label)
    return [
        replace(scan, missing=tuple(c for c in channels if c not in scan.images))
        for _, scan in sorted(scans.items())
    ]


def _top(path: Path, folder: Path) -> str:
    return path.relative_to(folder).parts[0]


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
    rows = list(_rows(path)) if path.is_file() else []
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        label = row.pop(key, "")
        name = prefix + label.removeprefix(prefix)
        if not label or name in found:
            what = f"a row without {key}" if not label else f"one {key} in two rows"
            raise DataError("E_DATASET", f"the table of {prefix}*", what, "mend it")
        found[name] = row
    return found


def _from_table(path: Path, channels: Sequence[str]) -> list[Listed]:
    columns = tuple(channels) or (IMAGE,)
    listing = []
    for number, row in enumerate(_rows(path), start=2):
        files = {column: row.pop(column, "") for column in columns}
        if not any(files.values()):
            raise DataError(
                "E_DATASET", "the table", f"line {number} has no {columns[0]}",
                f"fill the column {columns[0]}",
            )  # fmt: skip
        images = {column: path.parent / file for column, file in files.items() if file}
        relative, image = next((files[column], image) for column, image in images.items())
        label = row.pop("label", "")
        unique = str(Path(relative).with_name(stem(image)))
        name = row.pop("case", "") or unique
        subject = row.pop("subject", "")
        if is_nifti(image) and not subject:
            subject = _subject_of(Path(name).name)
        if row.get("lesion_mask"):  # a known lesion of a test case, for the report
            row["lesion_mask"] = str(path.parent / row["lesion_mask"])
        covariates = tuple((k, v) for k, v in row.items() if v)
        missing = tuple(column for column in columns if column not in images)
        listing.append(
            Listed(
                name, subject, images, path.parent / label if label else None, covariates,
                missing=missing,
            )
        )  # fmt: skip
    return _shorten_names(listing)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter=delimiter):
                yield {k.strip(): (v or "").strip() for k, v in row.items() if k}
    except (OSError, UnicodeDecodeError, csv.Error):
        raise DataError("E_DATASET", "the table", "cannot be read", "save it as UTF-8") from None
