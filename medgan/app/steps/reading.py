"""What a model makes of real scans, and the pages at the end."""

import logging
from pathlib import Path

from medgan.app.result import StepResult, written
from medgan.app.run import Run, facts
from medgan.core.errors import ConfigError, require_one_channel
from medgan.core.progress import counting

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
    folder = run.folder("scores")
    known = bool(run.config.data.healthy)
    with counting("scoring") as tick:
        rows, refusals = score_cases(
            run.model(), cases, folder, run.config.score, known, tick, run.scans.read
        )
    run.refuse(refusals)
    others = sum(not row["comparable"] for row in rows)
    apart = (
        f"{others} of {len(rows)} scans are not comparable and have no p-value" if others else ""
    )
    log.info("scored %d scans: %s", len(rows), folder / "scores.csv")
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

    with counting("translating") as tick:
        rows, refusals = write_translations(
            run.model(), run.manifest().split("test"), run.out, run.config.translate, facts(),
            tick, run.scans.read,
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


def report_step(run: Run) -> StepResult:
    """Writes the folder `report/`: pages of what the folder holds."""
    from medgan.reporting.site import write_report

    with counting("writing pages") as tick:
        page = write_report(run.out, run.config.report.scans, tick, run.scans.read)
    log.info("page: %s", page)
    return StepResult(page=page)
