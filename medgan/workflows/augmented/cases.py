"""Generated cases: for each request, candidates until one passes the filters, and a record."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medgan.core.config import GenerateConfig
from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.data.conditions import Value
from medgan.data.index import examine
from medgan.data.layouts.listed import Listed
from medgan.data.manifest import IMAGE, Case
from medgan.model.model import Model
from medgan.workflows.augmented.filters import Filters
from medgan.workflows.augmented.requests import Request
from medgan.workflows.synthetic_scan import save_synthetic

SUBSTITUTE = 1_000_000
"""Difference in number between a dropped candidate and its next substitute."""
TRIES = 10
"""Most candidates for a synthetic scan: nine of ten pass the first time, so that none passing says
that the model is unsuitable."""
UNUSABLE = "unusable"
"""Reason for candidates that `medgan check` refuses, such as a constant image."""


@dataclass(frozen=True)
class GeneratedCase:
    """The result of one request.

    Attributes:
        request: its number.
        fingerprint: of model, scans and settings.
        number: of the candidate that passed, from 0 in the seed; None if none passed.
        dropped: number of each dropped candidate, and the filter that it failed.
        metrics: of the candidate that passed.
        covariates: its conditions.
        sha256, label_sha256: of its files; empty if none passed, or without label.
    """

    request: int
    fingerprint: str
    number: int | None
    dropped: list[tuple[int, str]]
    metrics: dict[str, float]
    covariates: dict[str, Value]
    sha256: str = ""
    label_sha256: str = ""


@dataclass(frozen=True)
class CaseFolder:
    """A folder of generated cases, with a record of each in `work/cases`.

    Attributes:
        folder: of the data set.
        paths: gives the relative paths of image and label for a name.
        fingerprint: of model, scans and settings; other records are not used.
        seed: of the candidates.
    """

    folder: Path
    paths: Callable[[str], tuple[str, str]]
    fingerprint: str
    seed: int

    def name(self, number: int) -> str:
        """The name of a candidate; it says synthetic in every layout."""
        return f"synthetic-s{self.seed}-{number:05d}"

    def files(self, number: int) -> tuple[Path, Path]:
        """Paths of its image and label."""
        image, label = self.paths(self.name(number))
        return self.folder / image, self.folder / label

    def key(self, request: Request) -> str:
        """The fingerprint of a request's record."""
        text = json.dumps([self.fingerprint, request.number, sorted(request.conditions.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, request: Request) -> GeneratedCase | None:
        """The record of an earlier run, if its files are unchanged."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            case = GeneratedCase(**read_json(self._record(request.number)))
            case = replace(case, dropped=[(int(n), str(by)) for n, by in case.dropped])
            if case.fingerprint == self.key(request) and self._holds(case):
                return case
        return None

    def copy_from(self, other: "CaseFolder", request: Request) -> GeneratedCase | None:
        """Copies the result of a request from another folder, such as that of a shard."""
        case = other.find(request)
        if case is None:
            return None
        if case.number is not None:
            pairs = zip(other.files(case.number), self.files(case.number), strict=True)
            for source, target in pairs:
                if source.is_file():
                    write_atomic(target, source.read_bytes())
        self._write(case)
        return case

    def generate(
        self, request: Request, model: Model, filters: Filters, settings: GenerateConfig
    ) -> GeneratedCase:
        """Generates up to `TRIES` candidates until one passes; writes it and its record.

        Args:
            request: number and conditions.
            model: the generator.
            filters: of candidates.
            settings: truncation.
        """
        dropped: list[tuple[int, str]] = []
        case = GeneratedCase(request.number, self.key(request), None, dropped, {}, {})
        for attempt in range(TRIES):
            number = request.number + attempt * SUBSTITUTE
            (scan,) = model.iter_generate(
                1, self.seed, number, conditions=request.conditions,
                truncation=settings.truncation,
            )  # fmt: skip
            check = filters.check(scan)
            if check.failed:
                dropped.append((number, check.failed))
                continue
            image, label = self.files(number)
            save_synthetic(scan, image, label)
            try:
                listed = self.case(number, scan.covariates)
            except DataError:
                dropped.append((number, UNUSABLE))
                image.unlink()
                label.unlink(missing_ok=True)
                continue
            case = replace(
                case, number=number, metrics=check.metrics, covariates=scan.covariates,
                sha256=listed.sha256, label_sha256=listed.label_sha256 or "",
            )  # fmt: skip
            break
        self._write(case)
        return case

    def case(self, number: int, covariates: Mapping[str, Value]) -> Case:
        """A generated scan as a case of a manifest.

        Raises:
            DataError: if `medgan check` would refuse its files.
        """
        name = self.name(number)
        image, label = self.files(number)
        known = tuple((k, "n/a" if v is None else f"{v}") for k, v in covariates.items())
        listed = Listed(
            name, name, {IMAGE: image.resolve()}, label.resolve() if label.is_file() else None,
            (*known, ("synthetic", "yes")),
        )  # fmt: skip
        return replace(examine(listed, name, name), split="train")

    def remove_others(self, kept: Sequence[GeneratedCase]) -> None:
        """Removes generated scans and records of earlier runs that are not kept."""
        wanted = {
            path for case in kept if case.number is not None for path in self.files(case.number)
        }
        first, label = self.files(0)
        for pattern in {self._pattern(first), self._pattern(label)}:
            for path in self.folder.glob(pattern):
                if path not in wanted:
                    path.unlink()
                    with suppress(OSError):  # a subject's folders, where each has its own
                        path.parent.rmdir()
                        path.parent.parent.rmdir()
        numbers = {case.request for case in kept}
        for path in (self.folder / "work" / "cases").glob("*.json"):
            if int(path.stem) not in numbers:
                path.unlink()

    def _pattern(self, path: Path) -> str:
        """A pattern of the same file of all generated scans."""
        parts = path.relative_to(self.folder).parts
        return "/".join(
            f"{part.split('synthetic')[0]}synthetic*" if "synthetic" in part else part
            for part in parts
        )

    def _holds(self, case: GeneratedCase) -> bool:
        if case.number is None:
            return True
        hashes = (case.sha256, case.label_sha256)
        pairs = zip(self.files(case.number), hashes, strict=True)
        return all(not sha or _sha256(path) == sha for path, sha in pairs)

    def _record(self, number: int) -> Path:
        return self.folder / "work" / "cases" / f"{number:06d}.json"

    def _write(self, case: GeneratedCase) -> None:
        write_atomic(self._record(case.request), json.dumps(asdict(case)))


def count_dropped(cases: Iterable[GeneratedCase]) -> dict[str, int]:
    """Number of candidates dropped by each filter."""
    found = Counter(by for one in cases for _, by in one.dropped)
    return dict(sorted(found.items()))


def summary(cases: Sequence[GeneratedCase]) -> dict[str, Any]:
    """Counts for the provenance and the closing lines."""
    dropped = count_dropped(cases)
    kept = sum(one.number is not None for one in cases)
    return {
        "wanted": len(cases),
        "kept": kept,
        "candidates": kept + sum(dropped.values()),
        "dropped": dropped,
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
