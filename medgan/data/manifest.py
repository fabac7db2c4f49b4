"""What a data set holds that can be used: cases under pseudonyms, hashes, covariates, splits."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json_object
from medgan.core.tables import html_facts, html_table

IMAGE = "image"
"""Name of the channel where scans have only one."""
SPLITS = ("train", "validation", "calibration", "test")
"""What trains, what chooses weights during training, what p-values come from, what is tested."""


@dataclass(frozen=True)
class Case:
    """One usable scan.

    Attributes:
        case, subject: pseudonyms.
        images: absolute path of each image channel, by its name, in the order of the channels.
        label: absolute path of the label map, if there is one.
        hashes: SHA-256 of each channel's file as it is on disk.
        label_sha256: of the label map's file.
        shape, spacing: as stored; spacing in mm.
        labels: label values present, without background.
        label_mm3: volume of each of them in mm^3, on the scanner's grid.
        covariates: column name to value, as text.
        healthy: whether training and calibration may use it.
        split: train, validation, calibration or test.
        orientation: where the three array axes point, such as RAS or LPS.
        voxels: hash of each channel's voxel values, the same for every way of storing them.
        synthetic: whether any of its files says that it was generated, edited or translated.
        noise: of the first channel, as a share of its range of intensities (`noise_level`); None in
            a manifest from before it was measured.
        wanted: whether it is of the site whose style is wanted, in a harmonisation.
        sequence: pseudonym of the sequence that this is a phase of; empty for a single scan.
    """

    case: str
    subject: str
    images: dict[str, str]
    label: str | None
    hashes: dict[str, str]
    label_sha256: str | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    labels: tuple[int, ...]
    covariates: dict[str, str]
    healthy: bool = True
    split: str = "test"
    label_mm3: tuple[float, ...] = ()
    orientation: str = "RAS"
    voxels: dict[str, str] = field(default_factory=dict)
    synthetic: bool = False
    wanted: bool = False
    noise: float | None = None
    sequence: str = ""

    @property
    def image(self) -> str:
        """Path of the first channel, whose geometry the others share."""
        return next(iter(self.images.values()))

    @property
    def sha256(self) -> str:
        """Hash of the image: of its file, or of the hashes of several channels in order."""
        hashes = list(self.hashes.values())
        return hashes[0] if len(hashes) == 1 else _digest(hashes)


@dataclass(frozen=True)
class Refusal:
    """One file that was left out, under its pseudonym, with the reason and the remedy."""

    case: str
    code: str
    what: str
    remedy: str


@dataclass(frozen=True)
class SeriesRow:
    """A DICOM series as the table of a check shows it.

    Attributes:
        case, subject: pseudonyms.
        modality: a standard term.
        matrix: columns, rows and slices.
        spacing: mm along them, as far as it is known.
        status: used, ignored (of no kind that medgan reads) or refused.
        code: of the reason; empty for what is used.
        what, remedy: the reason; for what is used, what was corrected.
    """

    case: str
    subject: str
    modality: str
    matrix: tuple[int, ...]
    spacing: tuple[float, ...]
    status: str
    code: str = ""
    what: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Manifest:
    """All usable cases of a data set, what was refused, the licence it names, DICOM's table."""

    cases: tuple[Case, ...]
    refusals: tuple[Refusal, ...] = ()
    licence: str = ""
    series: tuple[SeriesRow, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of the file hashes, splits and health of all cases; no names go in."""
        rows = sorted(
            (c.sha256, c.label_sha256 or "", c.split, c.healthy, *["wanted"] * c.wanted)
            for c in self.cases
        )
        return _digest(rows)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image channels, which all cases share."""
        return tuple(self.cases[0].images) if self.cases else (IMAGE,)

    @property
    def training_digest(self) -> str:
        """Hash of the file hashes of healthy training scans: of what a model learns from."""
        hashes = sorted(case.sha256 for case in self.split("train") if case.healthy)
        return _digest(hashes)

    def split(self, name: str) -> list[Case]:
        """The cases of one split, in manifest order."""
        return [case for case in self.cases if case.split == name]

    def with_all_in(self, split: str) -> "Manifest":
        """The same manifest, every healthy subject in one split, the others in test."""
        unhealthy = self.unhealthy_subjects
        return replace(
            self,
            cases=tuple(
                replace(case, split="test" if case.subject in unhealthy else split)
                for case in self.cases
            ),
        )

    def with_unhealthy_tested(self) -> "Manifest":
        """The same splits, but subjects who are not healthy are only tested."""
        unhealthy = self.unhealthy_subjects
        cases = (replace(c, split="test") if c.subject in unhealthy else c for c in self.cases)
        return replace(self, cases=tuple(cases))

    def without_synthetic(self) -> "Manifest":
        """Refuses synthetic scans that would be learned from or calibrated on."""
        wrong = [c for c in self.cases if c.synthetic and c.split != "test"]
        refusals = (
            Refusal(
                c.case, "E_SYNTHETIC", f"is synthetic and would be in {c.split}",
                "leave it out, or set data.synthetic=true",
            )
            for c in wrong
        )  # fmt: skip
        cases = tuple(case for case in self.cases if case not in wrong)
        return replace(self, cases=cases, refusals=(*self.refusals, *refusals))

    @property
    def unhealthy_subjects(self) -> set[str]:
        """Subjects with any scan that is not healthy: all their scans are only tested."""
        return {case.subject for case in self.cases if not case.healthy}

    def _repr_html_(self) -> str:
        """For notebooks: what there is in each split, and why scans were refused; no names."""
        rows = []
        for split in SPLITS:
            cases = self.split(split)
            labelled = sum(case.label is not None for case in cases)
            healthy = sum(case.healthy for case in cases)
            rows.append((split, len({c.subject for c in cases}), len(cases), labelled, healthy))
        columns = ("split", "subjects", "scans", "with labels", "healthy")
        codes = Counter(refusal.code for refusal in self.refusals)
        found = html_facts(codes, f"{len(self.refusals)} refused") if codes else ""
        return html_table(columns, rows, f"{len(self.cases)} scans") + found

    def save(self, path: Path) -> None:
        """Writes JSON that only the owner may read: it holds paths of patients' files."""
        text = json.dumps(
            {
                "cases": [asdict(c) for c in self.cases],
                "refusals": [asdict(r) for r in self.refusals],
                "licence": self.licence,
                "series": [asdict(s) for s in self.series],
            },
            indent=1,
        )
        write_atomic(path, text, private=True)

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Reads what `save` wrote.

        Raises:
            DataError: E_MANIFEST.
        """
        try:
            values = read_json_object(path)
            cases = tuple(_case(case) for case in values["cases"])
            refusals = tuple(Refusal(**r) for r in values["refusals"])
            series = tuple(SeriesRow(**_tuples(row)) for row in values.get("series", []))
            return cls(cases, refusals, str(values.get("licence", "")), series)
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                "E_MANIFEST", path.name, "cannot be read", "run medgan check again"
            ) from None


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _case(values: Any) -> Case:  # noqa: ANN401 - JSON
    """A case of a manifest.

    Raises:
        TypeError, ValueError: it is none.
    """
    case = Case(**_tuples(values))
    texts = (case.case, case.subject, case.split, *([] if case.label is None else [case.label]))
    tables = (case.images, case.hashes, case.covariates, case.voxels)
    if not all(isinstance(text, str) for text in texts) or case.split not in SPLITS:
        raise ValueError("not the names of a case")
    if not all(isinstance(table, dict) for table in tables) or not case.images:
        raise ValueError("not the files of a case")
    if not all(isinstance(text, str) for table in tables for text in table.values()):
        raise ValueError("not the files of a case")
    if len(case.shape) != 3 or len(case.spacing) != 3:
        raise ValueError("not the grid of a case")
    return case


def _tuples(case: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(case, dict):
        raise TypeError("not an object")
    keys = ("shape", "spacing", "labels", "label_mm3", "matrix")
    return case | {key: tuple(case[key]) for key in keys if key in case}
