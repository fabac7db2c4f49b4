"""What a model makes of real scans, and the pages at the end."""

import logging
from typing import TYPE_CHECKING

from medgan.app.run import Run, facts
from medgan.core.errors import ConfigError
from medgan.core.progress import counting

if TYPE_CHECKING:
    pass


log = logging.getLogger(__name__)


def score_step(run: Run) -> None:
    """Scores the test split: scores.csv, scores.json and maps in each scan's own grid."""
    from medgan.workflows.score import score_cases

    cases = run.manifest().split("test")
    if not cases:
        log.warning("no scans in the test split: nothing to score")
        return
    folder = run.out / run.config.score.folder
    known = bool(run.config.data.healthy)
    with counting("scoring") as tick:
        rows, refusals = score_cases(run.model(), cases, folder, run.config.score, known, tick)
    run.refuse(refusals)
    run.results["score"] = {"scans": len(rows), "folder": str(folder)}
    log.info("scored %d scans: %s", len(rows), folder / "scores.csv")


def project_step(run: Run) -> None:
    """Projects the test split: reconstructions, latents, errors, pictures."""
    from medgan.workflows.editing import write_projections

    cases = run.manifest().split("test")
    with counting("projecting") as tick:
        rows, refusals = write_projections(
            run.model(), cases, run.out, run.config.latent.steps, facts(), tick
        )
    run.refuse(refusals)
    run.results["project"] = {"scans": len(rows), "folder": str(run.out)}
    log.info("projected %d scans: %s", len(rows), run.out / "latents.csv")


def edit_step(run: Run) -> None:
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
            settings.steps, facts(), tick,
        )  # fmt: skip
    run.refuse(refusals)
    run.results["edit"] = {"scans": len(rows), "folder": str(run.out)}
    log.info("edited %d scans: %s", len(rows), run.out / "after")


def report_step(run: Run) -> None:
    """Writes the folder `report/`: pages of what the folder holds."""
    from medgan.reporting.site import write_report

    with counting("writing pages") as tick:
        page = write_report(run.out, run.config.report.scans, tick)
    run.results["report"] = {"page": str(page)}
    log.info("page: %s", page)
