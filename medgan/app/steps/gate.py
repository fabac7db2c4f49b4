"""A version of a registered model before the gate."""

from medgan.app.promotion import run_command, who
from medgan.app.result import StepResult
from medgan.app.run import Run, facts
from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.tracking.decisions import deciding, meanwhile, record
from medgan.tracking.promotions import CHAMPION
from medgan.tracking.versions import Version, find_version, history_of


def gate_step(run: Run) -> StepResult:
    """Measures a version and the champion on the same scans; the alias moves if it passes."""
    from medgan.studies.gate.gate import PAGE, Candidate, run_gate
    from medgan.studies.gate.limits import failed

    settings, name, uri = run.config.gate, run.config.tracking.name, run.reading_uri()
    version = _asked(run)
    known = history_of(uri, name)
    holder = before = _holder(uri, name, settings.to)
    if holder is not None and holder.number == version.number:
        vouched = known.vouches_for(settings.to, version.number, version.content)
        if vouched or settings.to != CHAMPION:
            raise ConfigError(
                "E_USAGE", version.uri, f"is {settings.to} already", "name another version"
            )
        holder = None  # somebody moved the alias without the gate
    candidate = Candidate(version.uri, run.model(version.uri))
    champion = None
    if settings.to == CHAMPION and holder is not None:
        champion = Candidate(holder.uri, run.model(holder.uri))
    manifest = run.manifest()
    verdict = run_gate(
        candidate, champion, manifest, run.out, run.config, facts(), run.refuse, run.scans.read
    )
    with deciding(uri, name, settings.to, known) as history:
        present = _holder(uri, name, settings.to)
        if settings.to == CHAMPION and (present and present.uri) != (before and before.uri):
            raise meanwhile(name, settings.to)
        promotion = history.next(
            "promoted" if verdict.passed else "refused", settings.to, version.number,
            version.content, "" if present is None else present.number, who(settings.by),
            settings.why, manifest.digest, verdict.figures, verdict.champion,
            failed(verdict.checks),
        )  # fmt: skip
        record(uri, name, promotion)
    lines = [one.line for one in verdict.checks]
    if verdict.passed:
        run_command(settings.command, name, promotion)
        lines.append(f"promoted  {version.uri} is {settings.to} now")
    else:
        lines.append(f"refused   {version.uri} does not become {settings.to}")
    lines.append(f"record    {promotion.number}: {promotion.digest}")
    values = {
        "version": version.number, "alias": settings.to, "passed": verdict.passed,
        "figures": dict(verdict.figures), "champion": dict(verdict.champion),
        "failed": list(promotion.failed), "record": promotion.digest,
    }  # fmt: skip
    commands = (f"medgan models {name}",) if verdict.passed else ()
    return StepResult(values, tuple(lines), run.out / PAGE, commands, passed=verdict.passed)


def _asked(run: Run) -> Version:
    """The version that asks for the alias."""
    settings, name, uri = run.config.gate, run.config.tracking.name, run.reading_uri()
    alias = "challenger" if settings.to == CHAMPION and not settings.version else ""
    version = find_version(uri, name, settings.version, alias)
    if not version.content:
        raise ConfigError(
            "E_GATE", version.uri, "was registered by an older medgan, without its content's hash",
            "register the model again",
        )  # fmt: skip
    return version


def _holder(uri: str, name: str, alias: str) -> Version | None:
    """The version that an alias points at; None where there is none."""
    try:
        return find_version(uri, name, alias=alias)
    except EnvironmentFailure as error:
        if error.where.startswith("models:/"):
            return None
        raise
