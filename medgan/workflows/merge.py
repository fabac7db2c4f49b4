"""Shards of a data set, put together as if one run had done all of it."""

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.core.table_files import read_table, table_text
from medgan.data.duplicates import Duplicates
from medgan.data.manifest import Case, Manifest, Refusal
from medgan.data.pseudonyms import PRIVATE_KEY, write_private_key
from medgan.workflows import generate, score, translate
from medgan.workflows.executor.records import WORK, CaseRecords, Values
from medgan.workflows.executor.shard import DONE, SHARDS, Shard
from medgan.workflows.over_cases import write_results
from medgan.workflows.pages import PAGES

MANIFEST, REFUSED = "manifest.json", "refused.csv"
_FOLDER = re.compile(r"(\d+)-of-(\d+)")
Row = dict[str, Any]


def _finish_scores(folder: Path, whole: Row, values: list[Values]) -> None:
    score.write_scores(folder, whole, values)


def _finish_translations(folder: Path, whole: Row, values: list[Values]) -> None:
    rows = [one["row"] for one in values]
    write_results(folder, translate.TABLE, whole, rows, rows)


FINISH: dict[str, tuple[Callable[[Path, Row, list[Values]], None], tuple[str, ...]]] = {
    "score": (_finish_scores, score.FOLDERS),
    "translate": (_finish_translations, translate.FOLDERS),
    "generate": (generate.finish_generated, generate.FOLDERS),
}
"""What writes what is of all cases together, and the folders of cases' files, by the step."""


@dataclass(frozen=True)
class Merged:
    """What shards have become.

    Attributes:
        step: that they did.
        cases: how many are done.
        refusals: of all shards, and of scans that are in two of them.
    """

    step: str
    cases: int
    refusals: tuple[Refusal, ...]


def all_done(out: Path) -> bool:
    """Whether every shard of a folder is done."""
    with suppress(ConfigError, DataError):
        return bool(shards_of(out))
    return False


def shards_of(out: Path) -> list[Path]:
    """The folders of all shards, in order.

    Raises:
        ConfigError: E_SHARD when there are none, or of two divisions.
        DataError: E_SHARD, which names those that are missing or not done.
    """
    found = [
        Shard(int(name[1]), int(name[2]))
        for path in (out / SHARDS).glob("*")
        if (name := _FOLDER.fullmatch(path.name)) and path.is_dir()
    ]
    parts = {shard.of for shard in found}
    if len(parts) != 1:
        what = f"of {' and of '.join(map(str, sorted(parts)))} are there" if parts else "are none"
        raise ConfigError(
            "E_SHARD", f"{SHARDS}/", f"shards {what}", "give the folder of shards of one division"
        )
    shards = [Shard(number, *parts) for number in range(1, max(parts) + 1)]
    missing = [s.number for s in shards if not (s.folder(out) / DONE).is_file()]
    if missing:
        names = ", ".join(map(str, missing[:20])) + (" ..." if len(missing) > 20 else "")
        raise DataError(
            "E_SHARD", f"{SHARDS}/", f"{names} of {max(parts)} not done",
            "run these shards, which go on where they were",
        )  # fmt: skip
    return [shard.folder(out) for shard in shards]


def merge(out: Path) -> Merged:
    """Moves what shards have done into the folder of the whole, and writes what is of all.

    Broken off at any moment, it goes on when it is called again.

    Args:
        out: folder of the whole, locked.

    Raises:
        ConfigError, DataError: E_SHARD.
        EnvironmentFailure: E_DISK.
    """
    shards = shards_of(out)
    step, whole, names = _common(shards)
    listing = _listing(shards)
    records = CaseRecords(out)
    manifests = [Manifest.load(path / MANIFEST) for path in shards if (path / MANIFEST).is_file()]
    refusals = [one for path in shards for one in _refused(path)]
    subjects: dict[str, str] = {}
    if manifests:
        manifest, doubles = _together(manifests, listing)
        refusals += doubles
        manifest.save(out / MANIFEST)
        subjects = {case.case: case.subject for case in manifest.cases}
        names = list(subjects)
        key = [row for path in shards for row in _private(path)]
        write_private_key(out / PRIVATE_KEY, sorted(key, key=_place(listing, lambda row: row[0])))
    for path in shards:
        for kind in (records.kind, PAGES):
            own = CaseRecords(path, kind)
            for name in own.names:
                own.move(name, CaseRecords(out, kind))
        for page in (path / "report" / "scans").glob("*.html"):
            (out / "report" / "scans").mkdir(parents=True, exist_ok=True)
            page.replace(out / "report" / "scans" / page.name)
        if (path / "dicom").is_dir() and step in ("generate", "translate"):
            shutil.copytree(path / "dicom", out / "dicom", dirs_exist_ok=True)
    finish, folders = FINISH[step]
    records.keep_only(names, folders)
    found = [(name, records.read(name)) for name in names]
    values = [one["values"] for _, one in found if one is not None]
    if subjects:
        values = [one | {"row": _of(one["row"], subjects)} for one in values]
    lost = {name for name, one in found if one is None} - {one.case for one in refusals}
    if lost:
        raise DataError(
            "E_SHARD", f"{SHARDS}/", f"{len(lost)} scans have neither a result nor a refusal",
            "run the shards again: they do what is missing",
        )  # fmt: skip
    finish(out, whole, values)
    if subjects or refusals:
        write_atomic(
            out / REFUSED, table_text(map(vars, refusals), ("case", "code", "what", "remedy"))
        )
    return Merged(step, len(values), tuple(refusals))


def _of(row: Row, subjects: dict[str, str]) -> Row:
    """A row with the subject that the manifest of all shards has."""
    return row | {"subject": subjects[row["case"]]}


def _common(shards: Sequence[Path]) -> tuple[str, Row, list[str]]:
    """The step, what all cases have in common, and their names where these are known."""
    found = []
    for path in shards:
        with suppress(OSError, ValueError):  # a shard without scans
            found.append(read_json(path / WORK / "whole.json"))
    if not found or any(one != found[0] for one in found):
        raise DataError(
            "E_SHARD", f"{SHARDS}/", "are of different models, settings or versions",
            "run all of them with one command, or --replace",
        )  # fmt: skip
    if found[0]["step"] not in FINISH:
        raise ConfigError(
            "E_SHARD", f"{SHARDS}/", f"of {found[0]['step']} are not merged here",
            "run the same command without --shard",
        )  # fmt: skip
    return found[0]["step"], found[0]["whole"], found[0]["names"]


def _listing(shards: Sequence[Path]) -> list[str]:
    """The pseudonyms of all scans, which every shard has listed alike."""
    found = [read_json(path / DONE)["listing"] for path in shards]
    if any(one != found[0] for one in found):
        raise DataError(
            "E_SHARD", f"{SHARDS}/", "have not listed the same scans",
            "use one secret of the site, and run them again once no scans come or go",
        )  # fmt: skip
    return found[0]


def _place(listing: Sequence[str], name: Callable[[Any], str]) -> Callable[[Any], int]:
    places = {one: number for number, one in enumerate(listing)}
    return lambda value: places.get(name(value), len(places))


def _together(
    manifests: Sequence[Manifest], listing: Sequence[str]
) -> tuple[Manifest, list[Refusal]]:
    """The manifest of all shards, without scans that are in two of them, which are refused."""
    names = set(listing)

    def named(case: Case) -> str:
        return case.case if case.case in names else case.sequence

    cases = sorted((c for m in manifests for c in m.cases), key=_place(listing, named))
    refusals = sorted(
        (one for m in manifests for one in m.refusals), key=_place(listing, lambda one: one.case)
    )
    series = sorted(
        (row for m in manifests for row in m.series), key=_place(listing, lambda row: row.case)
    )
    duplicates, kept, doubles = Duplicates(), [], []
    for case in cases:
        try:
            duplicates.add(case)
            kept.append(case)
        except DataError as error:
            doubles.append(Refusal(case.case, error.code, error.what, error.remedy))
    cases, refused = duplicates.as_one_subject(kept), (*refusals, *doubles)
    return Manifest(cases, refused, manifests[0].licence, tuple(series)), doubles


def _refused(folder: Path) -> list[Refusal]:
    path = folder / REFUSED
    return [Refusal(**row) for row in read_table(path)] if path.is_file() else []


def _private(folder: Path) -> list[tuple[str, str, str]]:
    path = folder / PRIVATE_KEY
    rows = read_table(path) if path.is_file() else []
    return [(row["case"], row["subject"], row["file"]) for row in rows]
