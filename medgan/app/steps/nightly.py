"""Scores what is new in an inbox, run after run."""

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.app.result import StepResult, written
from medgan.app.run import Run
from medgan.app.steps.scans import with_channels
from medgan.core.errors import ConfigError, DataError
from medgan.core.progress import counting
from medgan.data.checks import CheckedScan
from medgan.data.dicom.conversion import CONVERTED
from medgan.data.inbox import Inbox
from medgan.data.index import index
from medgan.data.manifest import Manifest, Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.sequences import PHASES
from medgan.tracking.versions import follows_alias, version_behind

if TYPE_CHECKING:
    from medgan.workflows.nightly import New

log = logging.getLogger(__name__)


def nightly_step(run: Run) -> StepResult:
    """Scores the scans of an inbox that were not scored yet; rows of earlier runs stay."""
    from medgan.workflows.nightly import INBOX, Added, Cohort, Scoring

    source = _inbox_of(run)
    inbox = Inbox(run.out / INBOX, run.config.nightly.settle_seconds)
    cohort = Cohort(run.out, inbox, run.config.report.scans)
    version = _resolve(run)
    scans, refusals = _look(run, source, inbox)
    added = Added(refusals=refusals)
    if scans:
        scoring = Scoring.of(
            run.model(), version or run.model().digest[:12], run.config.score, run.scans.read
        )
        with counting("scoring") as tick:
            found = cohort.add(scoring, scans, tick)
        found.refusals = (*refusals, *found.refusals)
        added = found
    for sequence in {new.case.sequence for new in scans}:
        inbox.done(sequence, "scored")
    page = cohort.write()
    for folder in (CONVERTED, PHASES):  # patients' voxels, which no later run needs
        shutil.rmtree(run.out / folder, ignore_errors=True)
    run.refusals = (*run.refusals, *added.refusals)
    for one in added.refusals:
        log.warning("refused %s %s: %s; %s", one.code, one.case, one.what, one.remedy)
    for one in inbox.waiting:
        log.warning("%s waits for the next run: %s", one.case, one.what)
    copies = added.copies + inbox.copies
    counts = {
        "scored": added.scored, "cohort": len(cohort), "inbox": inbox.held, "copies": copies,
        "waiting": len(inbox.waiting), "refused": len(added.refusals),
    }  # fmt: skip
    return StepResult({**counts, "folder": str(run.out)}, _lines(run, counts), page)


def _lines(run: Run, counts: dict[str, int]) -> tuple[str, ...]:
    text = f"{counts['scored']} new scans scored, {counts['cohort']} in all"
    for name, what in (("copies", "copies left out"), ("waiting", "waiting for the next run"),
                       ("refused", "refused")):  # fmt: skip
        text += f"; {counts[name]} {what}" if counts[name] else ""
    empty = () if counts["inbox"] else (f"{'':9} the inbox holds no scan",)
    return (f"{'nightly':9} {text}", *empty, *written("", run.out))


def _inbox_of(run: Run) -> Path:
    source = Path(run.config.data.source)
    if not run.config.data.source:
        raise ConfigError("E_NO_DATA", "data.source", "no inbox named", "give --data")
    if not run.config.model_uri:
        raise ConfigError("E_USAGE", "model_uri", "no model named", "give --model")
    if run.config.score.layout != "medgan":
        raise ConfigError(
            "E_VALUE", "score.layout", f"is {run.config.score.layout}", "leave it out here"
        )
    if run.out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            "E_OUT", "-o", "lies in the inbox: its maps would be scored", "choose another folder"
        )
    return source


def _resolve(run: Run) -> str:
    """The name of the version that the model's URI means now, which is used from here on."""
    uri = run.config.model_uri
    if follows_alias(uri):
        uri = version_behind(uri, run.reading_uri())
        run.config = run.config.model_copy(update={"model_uri": uri})
    return uri.removeprefix("models:/") if uri.startswith("models:/") else ""


def _look(run: Run, source: Path, inbox: Inbox) -> "tuple[list[New], tuple[Refusal, ...]]":
    """The scans whose files are new, and the refusals that are told now."""
    from medgan.data.content import content_of
    from medgan.workflows.nightly import New

    settings = with_channels(run)
    contents = {}

    def keep(case: str, scan: CheckedScan) -> None:
        contents[case] = content_of(scan)
        run.scans.keep(case, scan)

    try:
        with counting("looking at new scans") as tick:
            manifest, _ = index(
                source, Pseudonyms.of_site(), settings.suffix, tick, run.out / CONVERTED,
                subjects=settings.subjects, session=settings.session, channels=settings.channels,
                keep=keep, choose=inbox.choose,
            )  # fmt: skip
    except DataError as error:
        if error.code != "E_NO_SCANS" or not source.is_dir():
            raise
        manifest = Manifest(())
    told: list[Refusal] = [one for one in manifest.refusals if inbox.refuse(one)]
    scans = []
    for case in manifest.cases:
        if inbox.changed(case.case):
            inbox.wait(case.case, "was written to while it was read")
        else:
            scans.append(New(case, contents[case.case]))
    inbox.ignore_others({name for case in manifest.cases for name in (case.case, case.sequence)})
    return scans, tuple(told)
