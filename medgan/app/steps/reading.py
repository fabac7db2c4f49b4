"""What a model makes of real scans, and the pages at the end."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.app.result import StepResult, written
from medgan.app.run import Run, facts
from medgan.core.errors import ConfigError, require_one_channel
from medgan.core.progress import counting
from medgan.reporting.site import FOLDER

if TYPE_CHECKING:
    from medgan.workflows.executor.records import Values

log = logging.getLogger(__name__)


def score_step(run: Run) -> StepResult | None:
    """Scores the test split: scores.csv, scores.json and maps in each scan's own grid."""
    from medgan.workflows.score import score_cases

    cases = run.manifest().split("test")
    if not cases:
        log.warning("no scans in the test split: nothing to score")
        return None
    if run.config.score.layout.startswith("mood"):
        raise ConfigError(
            "E_VALUE", "score.layout", "is for the step mood", "use medgan score --format mood"
        )
    if run.shard is not None and run.config.score.layout != "medgan":
        raise ConfigError(
            "E_VALUE", "score.layout", "numbers the scans of all shards", "score without --shard"
        )
    folder = run.folder("scores")
    known = bool(run.config.data.healthy)
    with counting("scoring") as tick:
        pages = "report" in run.steps and len(cases) <= run.config.report.scans
        rows, refusals = score_cases(
            run.model(),
            cases,
            folder,
            run.config.score,
            known,
            tick,
            run.scans.read,
            run.executor(len(cases)),
            run.out / FOLDER if pages else None,
        )
    run.refuse(refusals)
    others = sum(not row["comparable"] for row in rows)
    apart = (
        f"{others} of {len(rows)} scans are not comparable and have no p-value" if others else ""
    )
    log.info("scored %d scans: %s", len(rows), folder)
    return StepResult(
        {"scans": len(rows), "not_comparable": others, "folder": str(folder)},
        written("score", folder) + ((f"{'':9} {apart}",) if apart else ()),
    )


def mood_step(run: Run) -> StepResult:
    """Scores a folder as the MOOD challenge wants it: a map or a number for each file."""
    from medgan.workflows.mood import score_mood

    config = run.config
    contract, _, task = config.score.layout.partition("-")
    if contract != "mood":
        raise ConfigError(
            "E_VALUE", "score.layout", f"is {config.score.layout}", "set mood-pixel or mood-sample"
        )
    require_one_channel("the format of the MOOD challenge", run.model().preprocessing.channels)
    with counting("scoring") as tick:
        refusals = score_mood(run.model(), Path(config.data.source), run.out, task, tick)
    if refusals:
        run.refuse(refusals)
    return StepResult({"folder": str(run.out)}, written("mood", run.out))


def invert_step(run: Run) -> StepResult:
    """Inverts the test split: reconstructions, latents, errors, pictures."""
    from medgan.workflows.editing import write_inversions

    cases = run.manifest().split("test")
    with counting("inverting") as tick:
        rows, refusals = write_inversions(
            run.model(), cases, run.out, run.config.latent.steps, facts(), tick, run.scans.read
        )
    run.refuse(refusals)
    log.info("inverted %d scans: %s", len(rows), run.out / "latents.csv")
    return StepResult({"scans": len(rows), "folder": str(run.out)}, written("invert", run.out))


def translate_step(run: Run) -> StepResult:
    """Makes another image of each scan: images, spread of the answers, pictures."""
    from medgan.workflows.translate import write_translations

    cases = run.manifest().split("test")
    with counting("translating") as tick:
        rows, refusals = write_translations(
            run.model(), cases, run.out, run.config.translate, facts(),
            tick, run.scans.read, run.executor(len(cases)), run.shard is not None,
        )  # fmt: skip
    run.refuse(refusals)
    log.info("translated %d scans: %s", len(rows), run.out / "images")
    values = {"scans": len(rows), "folder": str(run.out)}
    return StepResult(values, written("translate", run.out))


def edit_step(run: Run) -> StepResult:
    """Edits the test split along covariates: before, after, difference, pictures."""
    from medgan.workflows.editing import write_edits

    settings = run.config.latent
    if not settings.changes:
        raise ConfigError(
            "E_CONDITION", "latent.changes", "nothing to change", "ask with --set age=80"
        )
    with counting("editing") as tick:
        rows, refusals = write_edits(
            run.model(), run.manifest().split("test"), run.out, settings.changes, settings.known,
            settings.steps, facts(), tick, run.scans.read,
        )  # fmt: skip
    run.refuse(refusals)
    log.info("edited %d scans: %s", len(rows), run.out / "after")
    return StepResult({"scans": len(rows), "folder": str(run.out)}, written("edit", run.out))


def report_step(run: Run) -> StepResult | None:
    """Writes the folder `report/`: pages of what the folder holds."""
    from medgan.reporting.site import write_report

    if run.shard is not None:  # pages of scans are written, the page of all is not its business
        return None
    with counting("writing pages") as tick:
        pages = _pages(run, tick)
        page = write_report(
            run.out, run.config.report.scans, lambda done, total: None, run.scans.read, pages
        )
    log.info("page: %s", page)
    return StepResult(page=page)


def _pages(run: Run, tick: Callable[[int, int], None]) -> "dict[str, Values]":
    """Pages of scored scans, but for their links: those that the scoring has not written."""
    from medgan.core.table_files import read_table
    from medgan.reporting.site import scored_in
    from medgan.workflows.executor.records import CaseRecords
    from medgan.workflows.executor.work import Here
    from medgan.workflows.pages import PAGES, PageWork, by_case, read_summary, write_pages

    folder = scored_in(run.out)
    if folder is None:
        return {}
    summary, rows = read_summary(folder)
    rows = rows[: run.config.report.scans]
    cases = {case.case: case for case in run.manifest().cases}
    regions = by_case(read_table(folder / "regions.csv"))
    work = PageWork(CaseRecords(folder.absolute(), PAGES), (run.out / FOLDER).absolute(), summary)
    scored = [(cases[row["case"]], row, regions.get(row["case"], [])) for row in rows]
    executor = run.executor(len(scored)) if run.works_elsewhere else Here(None)
    if isinstance(executor, Here):
        work = replace(work, read=run.scans.read)
    return write_pages(executor, work, scored, tick, again="score" not in run.steps)
