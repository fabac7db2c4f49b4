"""Verbs about registered models: the gate, and what there is."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medgan.app.cli.options import Json, Out, Preset, Replace, Set
from medgan.app.cli.running import Answer, answer, refuse, run_verb


def promote(
    name: Annotated[str, typer.Argument(help="registered model")],
    version: Annotated[
        str, typer.Argument(help="its version; default: the challenger, or the newest")
    ] = "",
    to: Annotated[
        Literal["challenger", "champion"], typer.Option(help="alias that it asks for")
    ] = "champion",
    data: Annotated[
        str, typer.Option(help="scans and splits as for its training, such as a manifest.json")
    ] = "",
    why: Annotated[str, typer.Option(help="the reason, for the record")] = "",
    by: Annotated[str, typer.Option(help="who decides; default: your account or login name")] = "",
    rollback: Annotated[
        bool, typer.Option("--rollback", help="give the alias back to the version before")
    ] = False,
    gate: Annotated[
        str, typer.Option(help="pipeline file with limits of your own, which extends gate")
    ] = "gate",
    config: Preset = "",
    out: Out = "runs/promote",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Let a registered version through the gate: measured now, beside the present champion.

    Status 6 where it is refused; the lines say why. Every attempt is recorded.

    Example: medgan promote brain 3 --to champion --data runs/ixi/manifest.json --why "two sites"
    """
    if rollback:
        if version or data:
            refuse("--rollback", "takes no version and no scans", "leave them out", as_json)

        def work() -> Answer:
            from dataclasses import asdict

            from medgan.app.promotion import roll_back

            done = roll_back(name, to, why, by, set_ or ())
            lines = [
                f"rolled back  models:/{name}@{to} is version {done.version} again, and not "
                f"{done.replaced}",
                f"record       {done.number}: {done.digest}",
            ]
            return Answer({**asdict(done), "record": done.digest}, lines)

        answer(work, as_json)
    if not data:
        refuse("--data", "is missing: the gate measures now", "name scans and splits", as_json)
    asked = {"version": version, "to": to, "why": why, "by": by}
    values: dict[str, Any] = {
        "out": out, "data": {"source": data}, "tracking": {"name": name}, "gate": asked,
    }  # fmt: skip
    run_verb(gate, values, set_, as_json, config, replace=replace)


def models(
    name: Annotated[str, typer.Argument(help="registered model; default: all")] = "",
    out: Annotated[str, typer.Option("-o", "--out", help="folder of the page")] = "runs/models",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """List registered models: versions, aliases, figures, promotions; and a page of them.

    Status 6 where the record of promotions was changed.

    Example: medgan models brain
    """

    def work() -> Answer:
        from medgan.app.promotion import PAGE, list_models, table
        from medgan.core.errors import Exit

        found = list_models(name, Path(out), set_ or ())
        broken = any(model["faults"] for model in found)
        lines = [*table(found), f"open      {Path(out) / PAGE}"]
        return Answer({"models": found}, lines, Exit.NOT_PASSED if broken else Exit.DONE)

    answer(work, as_json)
