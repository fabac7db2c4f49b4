"""A complete study becomes results: every usable series is scored, and its objects are written."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan.anomaly.alarms import is_alarm
from medgan.core.config import ScoreConfig
from medgan.core.errors import DataError, of_scan
from medgan.core.version import __version__
from medgan.core.volume import Volume
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.geometry import stack_slices
from medgan.data.dicom.objects import map_object, regions_object, save_private, summary_object
from medgan.data.dicom.report import Findings, RegionFacts, report_object
from medgan.data.dicom.series import IGNORED, Series
from medgan.data.dicom.sources import Source
from medgan.data.layouts.listed import Listed
from medgan.data.manifest import IMAGE
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.pacs.records import Outgoing, Scored
from medgan.deployment.pacs.spool import INSTANCES, RESULTS, make_private
from medgan.model.model import Model
from medgan.model.outputs import ScanScore
from medgan.workflows.dicom import result_text, summarise

log = logging.getLogger(__name__)
KINDS = ("map", "regions", "summary", "report")
"""In the order in which they are sent: a report refers to the regions."""


@dataclass(frozen=True)
class Outcome:
    """What scoring a study gave.

    Attributes:
        subject: pseudonym.
        series: results by the key of series and model.
        outgoing: objects of these.
        remarks: what was refused, and why.
    """

    subject: str
    series: dict[str, Scored]
    outgoing: list[Outgoing]
    remarks: list[str]


class StudyScorer:
    """Scores studies with one model.

    Args:
        model: calibrated, of one channel.
        version: of the model, for results.
        settings: the score section.
        pseudonyms: of the site.
    """

    def __init__(
        self, model: Model, version: str, settings: ScoreConfig, pseudonyms: Pseudonyms
    ) -> None:
        self._model, self._version, self._settings = model, version, settings
        self._pseudonyms = pseudonyms
        self._fingerprint = fingerprint(model, settings)

    def score(self, folder: Path, known: Mapping[str, Scored]) -> Outcome:
        """Scores all usable series of a study that have no result by this model yet.

        Where some series are comparable with the calibration scans, only these give objects.

        Args:
            folder: of the study.
            known: its results so far.

        Raises:
            EnvironmentFailure: E_DISK, and others that are no fault of the study.
        """
        found: dict[str, Scored] = {}
        outgoing: list[Outgoing] = []
        remarks: list[str] = []
        ignored: dict[str, int] = {}
        subject, usable = "", 0
        with Conversion(folder, modality_of(self._model)) as conversion:
            whole = Listed(folder.name, "", {IMAGE: folder / INSTANCES})
            for listed in conversion.expand(whole):
                case = self._pseudonyms.case(listed.name)
                try:
                    if listed.fault is not None or listed.series is None:
                        fault = listed.fault
                        raise fault or DataError("E_DICOM", case, "no DICOM", "export it again")
                    subject = self._pseudonyms.subject(listed.series.subject)
                    key = self._key(listed.series)
                    if key in known:
                        usable += 1
                        continue
                    with of_scan(case):
                        scored, files = self._score(
                            conversion, listed.series, case, key, folder, known
                        )
                    found[key] = scored
                    outgoing += files
                    usable += 1
                except DataError as error:
                    if error.code in IGNORED:
                        ignored[error.what] = ignored.get(error.what, 0) + 1
                    else:
                        remarks.append(f"{error.code} {case}: {error.what}; {error.remedy}")
        if not usable:
            remarks.append(_nothing_usable(folder.name, ignored))
        outgoing = self._comparable_first(folder, found, outgoing, known)
        return Outcome(subject, found, outgoing, remarks)

    def _key(self, series: Series) -> str:
        """Names the result of a series by this model: the same slices give the same key."""
        slices = sorted((frame.instance, frame.number) for frame in series.frames)
        text = json.dumps([series.name, slices, self._fingerprint])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _score(
        self, conversion: Conversion, series: Series, case: str, key: str, folder: Path,
        known: Mapping[str, Scored],
    ) -> tuple[Scored, list[Outgoing]]:  # fmt: skip
        scan, corrections = conversion.volume(series, case)
        stack = stack_slices(series, case)
        source = Source.read(stack, case, seed=key)
        result = self._model.score(
            self._model.prepare(scan, case), None, self._settings.smallest_mm3
        )
        row = self._row(result)
        notes = [f"Corrected: {note}." for note in corrections]
        earlier = [one for one in known.values() if one.case == case]
        if earlier:
            notes.append(
                f"A new result of this series, of {len(stack.frames)} slices; an earlier one was "
                f"of {earlier[-1].slices} slices, by {earlier[-1].version}."
            )
        made = self._objects(source, scan, result, row, notes)
        place = f"{RESULTS}/{key}"
        make_private(folder / place)
        for kind, one in made.items():
            save_private(one, folder / place / f"{kind}.dcm")
        say = log.info if row["comparable"] else log.warning
        say("%s: %s", case, row["text"])
        scored = Scored(case, len(stack.frames), self._version, row["comparable"], row["text"])
        return scored, [Outgoing(f"{place}/{kind}.dcm", kind) for kind in KINDS if kind in made]

    def _row(self, result: ScanScore) -> dict[str, Any]:
        rate, p_value = self._settings.false_alarms, result.p_value
        alarm = is_alarm(p_value, rate) if rate and p_value is not None else None
        row: dict[str, Any] = {
            "score": result.score, "p_value": p_value, "alarm": alarm,
            "comparable": not result.reasons, "explanation": result.explanation,
        }  # fmt: skip
        return {**row, "text": result_text(row)}

    def _objects(
        self, source: Source, scan: Volume, result: ScanScore, row: dict[str, Any],
        notes: Iterable[str],
    ) -> dict[str, Any]:  # fmt: skip
        facts = self._model.facts
        level = self._model.needed_calibration.level
        made: dict[str, Any] = {}
        assert result.region_map is not None
        numbers = np.rint(result.region_map.data).astype(np.int16)
        regions = []
        if row["comparable"]:
            heat = result.score_map.data.astype(np.float32, copy=False)
            made["map"] = map_object(source, heat, level, facts)
            if numbers.any():
                made["regions"] = regions_object(source, numbers, facts)
                regions = [
                    RegionFacts(one.number, one.volume_mm3, one.peak, one.place)
                    for one in result.regions
                ]
        picture = summarise(row, scan, result.score_map, level)
        made["summary"] = summary_object(source, picture, facts)
        score = result.score if row["comparable"] else None
        findings = Findings(
            score, row["p_value"], row["text"], self._version, regions, tuple(notes)
        )
        made["report"] = report_object(source, findings, made.get("regions"), facts)
        return made

    def _comparable_first(
        self, folder: Path, found: Mapping[str, Scored], outgoing: list[Outgoing],
        known: Mapping[str, Scored],
    ) -> list[Outgoing]:  # fmt: skip
        """The objects that are sent: of comparable series, if there are any."""
        if not any(one.comparable for one in (*found.values(), *known.values())):
            return outgoing
        dropped = {f"{RESULTS}/{key}" for key, one in found.items() if not one.comparable}
        for place in dropped:
            shutil.rmtree(folder / place, ignore_errors=True)
        return [one for one in outgoing if one.file.rpartition("/")[0] not in dropped]


def modality_of(model: Model) -> str:
    """CT or MR, whichever the model is of."""
    return "CT" if model.preprocessing.holds_ct else "MR"


def fingerprint(model: Model, settings: ScoreConfig) -> str:
    """Tells models, calibrations and settings apart whose results may differ."""
    calibration = model.needed_calibration
    parts = [
        __version__, model.digest, model.facts, [float(x) for x in calibration.scores],
        asdict(calibration.scoring_config), settings.false_alarms, settings.smallest_mm3,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _nothing_usable(study: str, ignored: Mapping[str, int]) -> str:
    text = "; ".join(f"{count} x {what}" for what, count in sorted(ignored.items()))
    return f"E_NO_SERIES {study}: no usable series{f' ({text})' if text else ''}; send the original"
