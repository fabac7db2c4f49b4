"""What a sweep has found: sweep.json, sweep.csv, the page, the table, figures for MLflow."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.app.sweep.space import Space, setting_text
from medgan.core.config import Config
from medgan.core.files import write_together
from medgan.core.table_files import table_text
from medgan.core.tables import text_table
from medgan.reporting.sweep import sweep_page
from medgan.tracking.record import Record
from medgan.tracking.tracker import METRICS, JsonlTracker, read_metrics

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial  # pyright: ignore[reportMissingImports]

NAME = "sweep"
CAUTION = (
    "The best of several trials is flattered: its figure is the best of {n}, on the validation "
    "scans that chose it. Train it again with other seeds, and judge it on scans that no trial has "
    "seen."
)
_STATES = {
    "COMPLETE": "finished", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "interrupted",
    "WAITING": "waiting",
}  # fmt: skip


def found(
    pipeline: str, space: Space, config: Config, trials: "Sequence[FrozenTrial]", command: str
) -> dict[str, Any]:
    """The content of sweep.json; no paths.

    Args:
        pipeline: name of the file.
        space: of the sweep.
        config: that was varied.
        trials: all of them.
        command: that trains the best settings in full, with `{}` for those settings.
    """
    rows = sorted(map(_row, trials), key=lambda row: (row["value"] is None, row["value"] or 0))
    finished = [row for row in rows if row["state"] == "finished"]
    best = finished[0] if finished else None
    settings = "" if best is None else _options(best["settings"])
    return {
        "pipeline": Path(pipeline).stem,
        "metric": config.train.metric,
        "varied": space.description(),
        "trials_asked": len(rows),
        "seed": config.sweep.seed,
        "stop": config.sweep.stop,
        "volumes": config.train.volumes,
        "best": best,
        "command": command.format(settings) if best else "",
        "caution": CAUTION.format(n=len(finished)) if best else "",
        "trials": rows,
    }


def _row(trial: "FrozenTrial") -> dict[str, Any]:
    facts = trial.user_attrs
    params = trial.params or trial.system_attrs.get("fixed_params", {})
    return {
        "trial": trial.number,
        "state": _STATES[trial.state.name],
        "settings": {key: setting_text(value) for key, value in params.items()},
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "best_at": facts.get("best_at"),
        "volumes": facts.get("volumes"),
        "minutes": round(facts["seconds"] / 60, 2) if "seconds" in facts else None,
        "figures": facts.get("figures", {}),
        "evaluations": facts.get("evaluations", []),
        **{name: facts.get(name, "") for name in ("code", "what", "remedy")},
    }


def _options(settings: dict[str, str]) -> str:
    return " ".join(f"--set {shlex.quote(f'{key}={text}')}" for key, text in settings.items())


def write_results(out: Path, result: dict[str, Any]) -> None:
    """Writes sweep.json, sweep.csv and sweep.html.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    rows = []
    for row in result["trials"]:
        figure = row["figures"].get(result["metric"], "")
        flat = {name: "" if row[name] is None else row[name] for name in _CELLS}
        rows.append(flat | row["settings"] | {result["metric"]: figure})
    columns = [*_CELLS, *result["varied"], result["metric"]]
    write_together({
        out / f"{NAME}.csv": table_text(rows, columns),
        out / f"{NAME}.html": sweep_page(result),
        out / f"{NAME}.json": json.dumps(result, indent=1),
    })  # fmt: skip


_CELLS = ("trial", "state", "code", "value", "best_at", "volumes", "minutes")


def lines(out: Path, result: dict[str, Any]) -> list[str]:
    """The table for a terminal, best first, and what to do next.

    Args:
        out: of the sweep.
        result: the content of sweep.json, whose command names the scans.
    """
    metric = result["metric"]
    columns = ("trial", "state", *result["varied"], metric, "best at", "volumes", "minutes")
    table = [
        (
            row["trial"], " ".join(filter(None, (row["state"], row["code"]))),
            *(row["settings"].get(key, "") for key in result["varied"]),
            *(_cell(row["figures"].get(metric)), _cell(row["best_at"]), _cell(row["volumes"])),
            _cell(row["minutes"]),
        )
        for row in result["trials"]
    ]  # fmt: skip
    said = text_table(columns, table).splitlines()
    if result["best"]:
        said += [result["caution"], f"try       {result['command']}"]
    return [*said, f"open      {out / f'{NAME}.html'}"]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(out: Path, result: dict[str, Any]) -> None:
    """Tells MLflow's run of the sweep, by its files, what was searched and what was found.

    Each finished trial is a row of metrics.jsonl, at the step of its number.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    record, metric, best = Record.read(out), result["metric"], result["best"]
    tags = dict(record.tags)
    if best:
        tags["sweep.best_trial"] = f"trial-{best['trial']:03d}"
        tags |= {f"sweep.best.{key}": text for key, text in best["settings"].items()}
    states = [row["state"] for row in result["trials"]]
    for state in _STATES.values():  # also those of none: MLflow keeps what it was told before
        tags[f"sweep.{state.replace(' ', '_')}"] = str(states.count(state))
    replace(record, tags=tags).write(out)
    known = {row["volumes_seen"] for row in read_metrics(out / METRICS)}
    tracker = JsonlTracker(out / METRICS, len(states) + 1)
    lowest = None
    for row in sorted(result["trials"], key=lambda row: row["trial"]):
        if row["value"] is None:
            continue
        if lowest is None or row["value"] < lowest["value"]:
            lowest = row
        if row["trial"] + 1 not in known:
            figures = {f"trial/{name}": value for name, value in row["figures"].items()}
            figures[f"best/{metric}"] = lowest["figures"][metric]
            tracker.log(figures, row["trial"] + 1)


def parameters(result: dict[str, Any]) -> dict[str, Any]:
    """What MLflow's run of the sweep is told at its start: the search space."""
    asked = {f"sweep.{name}": result[name] for name in ("pipeline", "metric", "seed", "stop")}
    asked["sweep.trials"] = result["trials_asked"]
    return asked | {f"sweep.over.{key}": text for key, text in result["varied"].items()}
