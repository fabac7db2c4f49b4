"""Verbs that measure models: fidelity, usefulness, privacy, detection."""

from typing import Annotated, Any

import typer

from medgan.app.cli.options import Json, Model, Out, Preset, Replace, Set
from medgan.app.cli.running import run_verb


def evaluate(
    real: Annotated[str, typer.Argument(help="real scans: folder, BIDS, Decathlon, CSV")],
    fake: Annotated[str, typer.Argument(help="synthetic scans, a model, a folder of a baseline")],
    count: Annotated[
        int, typer.Option("-n", "--count", help="scans that a model makes; 0: as many as real")
    ] = 0,
    out: Out = "runs/evaluate",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure whether synthetic scans are realistic and varied, with real scans as reference.

    Example: medgan evaluate scans runs/hippocampus/model -n 200 -o runs/evaluate
    """
    values = {
        "out": out,
        "data": {"source": real},
        "evaluate": {"fake": fake, "count": count},
    }
    run_verb("evaluate", values, set_, as_json, config, replace=replace)


def compare(
    models: Annotated[list[str], typer.Argument(help="models and folders of baselines")],
    data: Annotated[str, typer.Option(help="scans they were trained on, and were not")],
    out: Out = "runs/compare",
    config: Preset = "",
    segmentation: Annotated[bool, typer.Option(help="train segmenters too; takes long")] = False,
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Compare synthetic volumes with held-out real ones, one row a generator.

    Example: medgan compare runs/hippocampus/model runs/dcgan --data scans -o runs/compare
    """
    values = {
        "out": out,
        "data": {"source": data},
        "compare": {"models": models, "segmentation": segmentation},
    }
    run_verb("compare", values, set_, as_json, config, replace=replace)


def baseline(
    name: Annotated[str, typer.Argument(help="alpha_wgan, dcgan, ha_gan or vae")],
    data: Annotated[str, typer.Option(help="scans to learn from")],
    out: Out = "runs/baseline",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train a generator from the literature and write its samples, to compare with.

    Example: medgan baseline dcgan --data scans -o runs/dcgan --set train.minutes=60
    """
    values = {"out": out, "data": {"source": data}, "baseline": {"name": name}}
    run_verb("baseline", values, set_, as_json, config, replace=replace)


def utility(
    data: Annotated[
        str, typer.Option(help="scans with splits: to learn from, and to be tested on")
    ],
    out: Out = "runs/utility",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train networks with and without synthetic scans; test them on real ones.

    Generators learn from the same few real scans. The same command goes on where it stopped.

    Example: medgan utility --data scans --config msd_hippocampus --set train.minutes=20
    """
    values = {"out": out, "data": {"source": data}}
    run_verb("utility", values, set_, as_json, config, ("data", "model", "train"), replace=replace)


def audit(
    model: Annotated[str, typer.Argument(help="model, or folder of a baseline")],
    train: Annotated[str, typer.Option(help="scans it was trained on")] = "",
    holdout: Annotated[str, typer.Option(help="scans of subjects it was not trained on")] = "",
    data: Annotated[str, typer.Option(help="both at once, with data.splits")] = "",
    out: Out = "runs/audit",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Test whether a model or its synthetic scans leak information about its training scans.

    Example: medgan audit runs/mine/model --train scans --holdout others -o runs/audit
    """
    values: dict[str, Any] = {
        "out": out,
        "model_uri": model,
        "audit": {"train": train, "holdout": holdout},
    }
    if data:
        values["data"] = {"source": data}
    run_verb("audit", values, set_, as_json, config, replace=replace)


def detection(
    model: Model,
    data: Annotated[str, typer.Option(help="scans it was trained on, and was not")],
    out: Out = "runs/detection",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Plant lesions into held-out scans and measure which scorer finds them.

    What learns from planted lesions is tested on families of lesions that it never saw.

    Example: medgan bench detection runs/hippocampus/model --data scans -o runs/detection
    """
    values = {"out": out, "model_uri": model, "data": {"source": data}}
    run_verb("detection", values, set_, as_json, config, replace=replace)


def lesions(
    model: Model,
    data: Annotated[str, typer.Option(help="scans of patients, with lesion masks as label maps")],
    healthy: Annotated[
        str, typer.Option(help="healthy scans, split as for its training: thresholds and floors")
    ] = "",
    out: Out = "runs/lesions",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure how well maps find real lesions, beside a z-score and a threshold.

    Example: medgan bench lesions runs/mine/model --data patients --healthy scans -o runs/lesions
    """
    values = {
        "out": out,
        "model_uri": model,
        "data": {"source": data},
        "lesions": {"healthy": healthy},
    }
    run_verb("lesions", values, set_, as_json, config, replace=replace)


def translation(
    model: Model,
    data: Annotated[str, typer.Option(help="registered scans, split as for its training")],
    out: Out = "runs/translation",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure how near translated images are to real ones, beside floors and a judge.

    Example: medgan bench translation runs/mr2ct/model --data scans -o runs/translation
    """
    values = {"out": out, "model_uri": model, "data": {"source": data}}
    run_verb("translation", values, set_, as_json, config, replace=replace)


def super_resolution(
    model: Model,
    data: Annotated[str, typer.Option(help="fine scans it was trained on, and was not")],
    out: Out = "runs/super-resolution",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Make thick slices of held-out scans and measure how much of the fine scans a model restores.

    Example: medgan bench super-resolution runs/fine/model --data scans -o runs/super-resolution
    """
    values = {"out": out, "model_uri": model, "data": {"source": data}}
    run_verb("super_resolution", values, set_, as_json, config, replace=replace)


def convergence(
    data: Annotated[str, typer.Option(help="scans to learn from, and to compare with")],
    out: Out = "runs/convergence",
    config: Preset = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train generators and measure their processor minutes to given kernel distances.

    The same command goes on where it stopped.

    Example: medgan bench convergence --data scans --config msd_hippocampus -o runs/convergence
    """
    values = {"out": out, "data": {"source": data}}
    sections = ("data", "model", "train")
    run_verb("convergence", values, set_, as_json, config, sections, replace=replace)
