"""Promotions outside of a pipeline: back to the champion before, and the list of models."""

import getpass
import logging
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medgan.core.config import build
from medgan.core.errors import ConfigError, ModelError
from medgan.core.files import write_atomic
from medgan.tracking.client import reading_uri
from medgan.tracking.decisions import deciding, record
from medgan.tracking.promotions import CHAMPION, Promotion
from medgan.tracking.versions import (
    Registered,
    Version,
    find_version,
    history_of,
    registered_models,
)

log = logging.getLogger(__name__)
PAGE = "models.html"
_SHOWN = ("training_scans", "volumes_seen", "data_digest", "git_revision")
"""Facts of a version that are listed."""


def who(given: str) -> str:
    """Who decides: the name given, else that of the MLflow account, else the login name."""
    return given or os.environ.get("MLFLOW_TRACKING_USERNAME", "") or getpass.getuser()


def roll_back(name: str, alias: str, why: str, by: str, overrides: Sequence[str] = ()) -> Promotion:
    """Gives an alias back to the version that had it before, if its files are those of then.

    Args:
        name: of the registered model.
        alias: such as champion.
        why: for the record.
        by: who decides; empty is the MLflow account, else the login name.
        overrides: `section.key=value`, of `tracking` and `gate.command`.

    Raises:
        ConfigError: E_GATE where there was none before.
        ModelError: E_TAMPERED.
        EnvironmentFailure: E_TRACKING.
    """
    from medgan.tracking.loading import load

    config = build({}, overrides)
    uri = config.tracking.uri or reading_uri(Path(config.out))
    history = history_of(uri, name)
    standing = history.holders(alias)
    if len(standing) < 2:
        raise ConfigError(
            "E_GATE", f"models:/{name}@{alias}", "no version had the alias before by a promotion",
            f"promote one: medgan promote {name} VERSION --to {alias} --data SCANS",
        )  # fmt: skip
    now, before = standing[-1], standing[-2]
    version = find_version(uri, name, before.version)
    load(version.uri, uri)
    if version.content != before.content:
        raise ModelError(
            "E_TAMPERED", version.uri, "its files are not those that were promoted",
            "restore the artifacts and the tags of the store from a backup",
        )  # fmt: skip
    with deciding(uri, name, alias, history) as present:
        done = present.next(
            "rolled back", alias, before.version, before.content, now.version, who(by), why
        )
        record(uri, name, done)
    run_command(config.gate.command, name, done)
    return done


def run_command(command: str, name: str, promotion: Promotion) -> None:
    """Runs the user's program after an alias has moved; where it fails, the alias stays."""
    if not command:
        return
    told = {
        "MEDGAN_NAME": name, "MEDGAN_VERSION": promotion.version,
        "MEDGAN_ALIAS": promotion.alias, "MEDGAN_RECORD": promotion.digest,
    }  # fmt: skip
    try:
        done = subprocess.run(  # nosec B603 # the user's own command, without a shell
            shlex.split(command, posix=os.name == "posix"), env={**os.environ, **told}, check=False
        )
        failed = f"ended with status {done.returncode}" if done.returncode else ""
    except (OSError, ValueError) as error:
        failed = f"cannot be run ({type(error).__name__})"
    if failed:
        log.warning("gate.command %s; the alias has moved all the same", failed)


def list_models(name: str, out: Path, overrides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Versions, aliases, figures and promotions of registered models; writes models.html.

    Args:
        name: of one; empty for all.
        out: folder that receives the page.
        overrides: `section.key=value`, of `tracking`.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    from medgan.reporting.gate import models_page

    config = build({}, overrides)
    uri = config.tracking.uri or reading_uri(out)
    found = [_described(model) for model in registered_models(uri, name)]
    write_atomic(out / PAGE, models_page(found))
    return found


def _described(model: Registered) -> dict[str, Any]:
    history = model.history
    return {
        "name": model.name,
        "versions": [_row(version, model) for version in model.versions],
        "promotions": [{**asdict(one), "digest": one.digest} for one in history.records],
        "faults": [*history.faults, *_unvouched(model)],
        "last_record": history.records[-1].digest if history.records else "",
    }


def _unvouched(model: Registered) -> list[str]:
    """Champions that no record vouches for: set without the gate, or their record was taken out."""
    return [
        f"{CHAMPION} is version {one.number}, for which no record vouches"
        for one in model.versions
        if CHAMPION in one.aliases
        and not model.history.vouches_for(CHAMPION, one.number, one.content)
    ]


def _row(version: Version, model: Registered) -> dict[str, Any]:
    measured = [one for one in model.history.records if one.version == version.number]
    figures = next((one.figures for one in reversed(measured) if one.figures), {})
    registered = datetime.fromtimestamp(version.created / 1000, UTC)
    facts = {key: version.tags[key] for key in _SHOWN if key in version.tags}
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "registered": registered.isoformat(sep=" ", timespec="minutes")[:16],
        "figures": in_words(figures),
        "facts": ", ".join(f"{key.replace('_', ' ')} {value[:12]}" for key, value in facts.items()),
    }


def in_words(figures: Any) -> str:  # noqa: ANN401 - a mapping from JSON
    """Metrics of a gate in one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
    )


def table(models: Sequence[dict[str, Any]]) -> list[str]:
    """Lines for a terminal."""
    from medgan.core.tables import markdown_table

    lines = []
    for model in models:
        rows = [
            (model["name"], row["version"], ", ".join(row["aliases"]), row["registered"],
             row["figures"])
            for row in model["versions"]
        ]  # fmt: skip
        lines += markdown_table(
            ("model", "version", "aliases", "registered (UTC)", "figures"), rows
        ).splitlines()
        lines += [f"record    {fault}" for fault in model["faults"]]
        if model["last_record"]:
            lines.append(
                f"record    {len(model['promotions'])}, the last is {model['last_record']}"
            )
        lines.append("")
    return lines[:-1] or ["no model is registered yet: medgan register MODEL --name NAME"]
