"""Verbs that make, calibrate, share and register models."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medgan.app.cli.options import Json, Model, Out, OutOfFile, Pipeline, Replace, Set, Source
from medgan.app.cli.running import Answer, answer, run_verb
from medgan.core.launched import launched


def train(
    config: Pipeline,
    data: Annotated[str, typer.Option(help="scans to learn from")] = "",
    out: OutOfFile = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what it takes: parameters, memory, time")
    ] = False,
    replace: Replace = False,
    start: Annotated[
        str, typer.Option("--from", metavar="MODEL", help="model whose weights to start from")
    ] = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train and calibrate a model; the same command resumes.

    Started by torchrun, one process a GPU, it trains the same model on several GPUs: they share
    train.batch (docs/how-to/many-gpus.md).

    Example: medgan train ixi_brain_2mm --data scans -o runs/ixi --set train.minutes=60
    """
    values: dict[str, Any] = {"out": out} if out else {}
    if start:
        values["train"] = {"start_from": start}
    if data:
        values["data"] = {"source": data}

    def forecast() -> Answer:
        from medgan.app.forecasting import forecast_pipeline

        found = forecast_pipeline(config, set_ or [], values)
        return Answer(found.as_json(), found.lines())

    if dry_run:
        if launched().rank:  # the first process says it for all
            raise typer.Exit
        answer(forecast, as_json, shared=True)
    run_verb(config, values, set_, as_json, replace=replace, folder="runs/train")


def calibrate(
    model: Model, healthy: Source, out: Out = "runs/calibrate", set_: Set = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Calibrate a model's scores on healthy scans of one's own scanner.

    A model folder is calibrated in place; a registered model is copied to OUT/model.

    Example: medgan calibrate runs/demo/model healthy_scans
    """
    values = {"out": out, "model_uri": model, "data": {"source": healthy}}
    run_verb("calibrate", values, set_, as_json)


def share(
    model: Model,
    out: Out = "runs/share",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write a model to hand on: half precision, without the discriminator, which leaks most.

    The model is OUT/model. Audit it before it leaves.

    Example: medgan share runs/ixi/model -o runs/share
    """
    run_verb("share", {"out": out, "model_uri": model}, set_, as_json, replace=replace)


def register(
    model: Annotated[str, typer.Argument(help="model folder")],
    name: Annotated[str, typer.Option(help="registered model")] = "medgan",
    alias: Annotated[str, typer.Option(help="alias to set")] = "challenger",
    out: Annotated[
        str, typer.Option("-o", "--out", help="the run's folder; default: beside the model")
    ] = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Register a model folder in MLflow under a name and an alias.

    Example: medgan register runs/ixi/model --name brain
    """
    in_mlflow = model.startswith(("models:/", "runs:/"))
    out = out or ("runs/register" if in_mlflow else str(Path(model).parent))
    tracking = {"name": name, "alias": alias}
    run_verb("register", {"out": out, "model_uri": model, "tracking": tracking}, set_, as_json)
