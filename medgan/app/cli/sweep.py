"""The verb that tries several settings of a training."""

from typing import Annotated, Any

import typer

from medgan.app.cli.options import Json, Pipeline, Replace, Set
from medgan.app.cli.running import Answer, answer


def sweep(
    config: Pipeline,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="setting to vary: section.key=1,2,3, or a range 1:10 or 1:10:log; repeat",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option("-n", "--trials", help="trainings; default: all combinations")
    ] = 0,
    data: Annotated[str, typer.Option(help="scans to learn from")] = "",
    out: Annotated[
        str, typer.Option("-o", "--out", help="folder that receives everything")
    ] = "runs/sweep",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say which trials there would be, and write nothing")
    ] = False,
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train with several settings and compare them on validation scans; the same command resumes.

    Hopeless trials are stopped early. --over and -n may be a section sweep of the pipeline file.

    Example: medgan sweep msd_hippocampus --data scans --over train.learning_rate=1e-4:1e-3:log -n 8
    """

    def work() -> Answer:
        from medgan.app.sweep.command import plan_sweep, planned, run_sweep
        from medgan.app.sweep.space import read_over

        asked_for = {"over": read_over(over or ()), "trials": trials}
        given = {name: value for name, value in asked_for.items() if value}
        values: dict[str, Any] = {"out": out} | ({"sweep": given} if given else {})
        if data:
            values["data"] = {"source": data}
        asked = plan_sweep(config, set_ or (), values)
        if dry_run:
            return Answer({"trials": asked.drawn}, planned(asked))
        return Answer(*run_sweep(asked, replace))

    answer(work, as_json)
