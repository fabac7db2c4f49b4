"""Scores what is new in a folder and adds it to what was scored there before.

Of each scan its maps and its page are written first and its record last. A run that ends anywhere
leaves whole records, and the next one goes on from them.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from medgan.anomaly.alarms import is_alarm, require_calibration
from medgan.anomaly.cohort import (
    RECORDS,
    Record,
    Row,
    Scorer,
    read_records,
    read_scorers,
    save_scorer,
    write_tables,
)
from medgan.core.config import ScoreConfig
from medgan.core.errors import DataError, of_scan
from medgan.core.files import flush, write_atomic
from medgan.core.table_files import table_text
from medgan.data.checks import CheckedScan
from medgan.data.content import Content, same_content
from medgan.data.inbox import Inbox
from medgan.data.manifest import Case, Refusal
from medgan.data.pseudonyms import PRIVATE_KEY, Pseudonyms, write_private_key
from medgan.model.model import Model
from medgan.reporting.cohort import write_cohort_page
from medgan.reporting.scan import Maps, Neighbours
from medgan.reporting.site import FOLDER, flagged, write_scan, write_viewer
from medgan.workflows.scan_score import score_case
from medgan.workflows.score import summary_of

log = logging.getLogger(__name__)
INBOX = "inbox.json"
"""What the inbox held; only its owner may read it."""
TRIES = f"{RECORDS}/tries"
"""How often a run has ended, for no reason that it knows, at a scan."""
MOST_TRIES = 5
CLOSED = f"{RECORDS}/closed"
"""The number of the last batch that no scan is added to any more."""
_REFUSED = ("case", "code", "what", "remedy")


class New(NamedTuple):
    """A scan whose files were not seen before.

    Attributes:
        case: of the manifest.
        content: of its voxels.
    """

    case: Case
    content: Content


class Scoring(NamedTuple):
    """What scores.

    Attributes:
        model: calibrated.
        scorer: what the records say of it.
        settings: the score section.
        read: gives the checked files of a case.
    """

    model: Model
    scorer: Scorer
    settings: ScoreConfig
    read: Callable[[Case], CheckedScan]

    @classmethod
    def of(
        cls, model: Model, version: str, settings: ScoreConfig, read: Callable[[Case], CheckedScan]
    ) -> "Scoring":
        """Checks that the model can do it.

        Raises:
            ModelError: E_UNCALIBRATED.
            DataError: E_CALIBRATION if the calibration scans are too few for the false-alarm rate.
        """
        scores = model.needed_calibration.scores
        if settings.false_alarms:
            require_calibration(len(scores), settings.false_alarms)
        summary = summary_of(model, settings.false_alarms)
        scorer = Scorer(version, model.digest, summary, settings.smallest_mm3)
        return cls(model, scorer, settings, read)


@dataclass
class Added:
    """What a run has added.

    Attributes:
        scored: how many scans.
        copies: how many were scored before, under another name or in another form.
        refusals: told for the first time.
    """

    scored: int = 0
    copies: int = 0
    refusals: tuple[Refusal, ...] = ()


class Cohort:
    """Scores of all scans that an inbox has held.

    Args:
        folder: of records, maps, tables and pages; locked by the caller.
        inbox: notes what becomes of each scan.
        pages: new scans of a run that get a page; pictures on the page of all.

    Raises:
        DataError: E_RECORD.
    """

    def __init__(self, folder: Path, inbox: Inbox, pages: int) -> None:
        self._folder, self._inbox, self._pages = folder, inbox, pages
        self._records = read_records(folder)
        self._scorers = read_scorers(folder)
        newest = max((record.batch for record in self._records), default=1)
        self._batch = _number(folder / CLOSED) + 1 if (folder / CLOSED).is_file() else newest
        for record in self._records:
            inbox.scored(record.digest)

    def __len__(self) -> int:
        return len(self._records)

    def add(
        self,
        scoring: Scoring,
        scans: Sequence[New],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Added:
        """Scores scans, one after the other.

        Those at which runs have ended for no reason that they knew come last, after the tables of
        the others are written.

        Args:
            scoring: what scores.
            scans: that are new.
            progress: receives the number of scans done and of all.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        added, suspected = Added(), False
        queue = sorted(scans, key=lambda new: _number(self._tried(new.case)))
        for number, new in enumerate(queue, start=1):
            if not suspected and _number(self._tried(new.case)):
                suspected = True
                self.write()
            try:
                self._add(scoring, new, added)
            except DataError as error:
                refusal = Refusal(new.case.case, error.code, error.what, error.remedy)
                if self._inbox.refuse(refusal):
                    added.refusals += (refusal,)
            progress(number, len(queue))
        return added

    def _add(self, scoring: Scoring, new: New, added: Added) -> None:
        case = new.case
        if any(same_content(new.content, record.content) for record in self._records):
            self._inbox.done(case.case, "copy")
            added.copies += 1
            return
        tried = self._tried(case)
        tries = _number(tried)
        if tries >= MOST_TRIES:
            raise DataError(
                "E_CRASH", case.case, f"ended the run {tries} times",
                "score it by hand with medgan score",
            )  # fmt: skip
        write_atomic(tried, str(tries + 1), private=True)
        try:
            with of_scan(case.case):
                record = self._score(scoring, new, added.scored < self._pages)
            save_scorer(scoring.scorer, self._folder)
            record.save(self._folder)
        finally:
            tried.unlink(missing_ok=True)
        self._scorers[scoring.scorer.key] = scoring.scorer
        self._records.append(record)
        self._inbox.done(case.case, "scored")
        added.scored += 1

    def _score(self, scoring: Scoring, new: New, with_page: bool) -> Record:
        look = self._inbox.new(new.case.case)
        replaces = self._replaced(new, look is not None and look.series)
        case = replace(new.case, case=self._free_name(new))
        scan = scoring.read(new.case)
        row, found, maps = score_case(scoring.model, case, scan, self._folder, scoring.settings)
        rate = scoring.settings.false_alarms
        if rate and row["comparable"]:
            row["alarm"] = is_alarm(row["p_value"], rate)
        row |= {"scored": datetime.now(UTC).isoformat(timespec="seconds"), "replaces": replaces}
        page, thumbnail = "", {}
        if with_page:
            shown = self._write_page(case, maps, row, found, scoring.scorer)
            page, thumbnail = shown["page"], shown["thumbnail"]
        for kind in ("map", "recon", "regions"):
            flush(self._folder / row[kind])
        file = str(look.files[0]) if look and look.files else case.image
        digest = look.digest if look else ""
        return Record(
            row, found, scoring.scorer.key, self._batch, digest, new.content, file, page, thumbnail
        )

    def _replaced(self, new: New, series: bool) -> str:
        """The row of the same scan that was scored before; empty where there is none."""
        name, values = new.case.case, new.content["values"]
        for record in reversed(self._records):
            if record.content["values"] == values:
                what = "another header"
            elif series and record.case == name:
                what = "other slices"
            else:
                continue
            log.warning("%s is %s with %s: its new score takes the place", name, record.case, what)
            return record.case
        return ""

    def _free_name(self, new: New) -> str:
        """The pseudonym of a scan; one of its own where another content has its name already."""
        name = new.case.case
        if all(record.case != name for record in self._records):
            return name
        own = Pseudonyms.of_site().case(f"{name} {new.content['voxels']} {new.content['affine']}")
        log.warning("%s was scored before with other content: now it is %s", name, own)
        return own

    def _write_page(
        self, case: Case, maps: Maps, row: Row, found: list[Row], scorer: Scorer
    ) -> Row:
        report = self._folder / FOLDER
        if not (report / "niivue" / "LICENSE.txt").is_file():
            write_viewer(report)
        calibration, (shown,) = flagged({**scorer.summary, "scans": [row]})
        shown["regions_found"] = found
        write_scan(report, shown, case, maps, calibration, Neighbours())
        return shown

    def _tried(self, case: Case) -> Path:
        return self._folder / TRIES / case.case

    def write(self) -> Path:
        """Writes tables, key, refusals and the page of all scans, as far as they have changed.

        Returns:
            The page.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        newest = max((record.batch for record in self._records), default=0)
        if self._records and newest >= self._batch:
            write_atomic(self._folder / CLOSED, str(newest))
            self._batch = newest + 1
        self._inbox.save()
        refused = self._inbox.refused
        key = [(record.case, record.row["subject"], record.file) for record in self._records]
        others = [*refused, *self._inbox.waiting]
        key += [(one.case, one.subject, one.file) for one in others]
        write_private_key(self._folder / PRIVATE_KEY, key)
        write_atomic(self._folder / "refused.csv", table_text(map(vars, refused), _REFUSED))
        if self._records:
            write_tables(self._folder, self._records, self._scorers)
        return write_cohort_page(self._folder, self._pages)


def _number(path: Path) -> int:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return 0
