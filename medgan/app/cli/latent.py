"""Verbs about a model's latents: real scans in them, ways and changes through them."""

from typing import Annotated, Any

import typer

from medgan.app.cli.options import Json, Model, Out, Replace, Set, Source, conditions
from medgan.app.cli.running import run_verb


def invert(
    model: Model,
    source: Source,
    out: Out = "runs/invert",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Find the latents that reproduce real scans best; errors, reconstructions, pictures.

    Example: medgan invert runs/ixi/model scans -o runs/invert
    """
    values = {"out": out, "model_uri": model, "data": {"source": source}}
    run_verb("invert", values, set_, as_json, replace=replace)


def interpolate(
    model: Model,
    a: Annotated[str, typer.Argument(help="NIfTI file, seed:3, or seed:3/5 for its number 5")],
    b: Annotated[str, typer.Argument(help="likewise")],
    count: Annotated[int, typer.Option("-n", "--count", help="scans, both ends included")] = 8,
    out: Out = "runs/interpolate",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write synthetic scans on the way between two, and a picture of them.

    A key of --set without a dot is a condition of ends that are seeds: --set sex=F.

    Example: medgan interpolate runs/ixi/model seed:3 seed:7 -n 8 -o runs/interpolate
    """
    values = {
        "out": out,
        "model_uri": model,
        "latent": {"ends": [a, b]},
        "generate": {"count": count},
    }
    run_verb("interpolate", values, conditions(set_), as_json, replace=replace)


def edit(
    model: Model,
    source: Source,
    known: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="what is known of the scan; repeat"),
    ] = None,
    out: Out = "runs/edit",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Change real scans along a model's conditions: the same brain, older.

    A key of --set without a dot is a condition to change: --set age=80.

    Example: medgan edit runs/ixi/model scan.nii.gz --known age=55 --set age=80 -o runs/older
    """
    values = {"out": out, "model_uri": model, "data": {"source": source}}
    more = [f"latent.known.{text.strip()}" for text in known or []]
    run_verb("edit", values, [*more, *conditions(set_, "latent.changes")], as_json, replace=replace)


def series(
    model: Model,
    source: Annotated[
        str,
        typer.Argument(
            help="NIfTI file or other scans, seed:3, seed:3/5 for its number 5, seed:3/0-7"
        ),
    ],
    along: Annotated[
        str, typer.Option(help="condition that is a number, direction:1, or covariate:age")
    ],
    start: Annotated[
        float | None, typer.Option("--from", help="first value, if not the lowest in training")
    ] = None,
    stop: Annotated[
        float | None, typer.Option("--to", help="last value, if not the highest in training")
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="frames, both ends included")] = 9,
    known: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="what is known of the subject; repeat"),
    ] = None,
    out: Out = "runs/series",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write one subject along a condition, a brain ageing or a heart beating: 4D, strip, film.

    Example: medgan series runs/ixi/model scan.nii.gz --known age=55 --along age -o runs/ageing
    """
    latent = {"along": along, "start": start, "stop": stop}
    values = {
        "out": out, "model_uri": model, "data": {"source": source}, "latent": latent,
        "generate": {"count": count},
    }  # fmt: skip
    more = [f"latent.known.{text.strip()}" for text in known or []]
    run_verb("series", values, [*more, *(set_ or [])], as_json, replace=replace)


def directions(
    model: Model,
    count: Annotated[int, typer.Option("-n", "--count", help="directions to show")] = 6,
    seed: Annotated[int, typer.Option(help="seed of the synthetic subject in the picture")] = 0,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="column of the training scans' table to follow; repeat"),
    ] = None,
    data: Annotated[
        str, typer.Option(help="manifest.json of the training, for a model that was moved")
    ] = "",
    out: Out = "runs/directions",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Find the directions of the latent along which the generator changes most, without labels.

    With --covariate also those that follow a covariate, conditioned on or not.

    Example: medgan directions runs/ixi/model --covariate age -o runs/directions
    """
    values: dict[str, Any] = {
        "out": out, "model_uri": model, "generate": {"count": count, "seed": seed},
    }  # fmt: skip
    if covariate:
        values["latent"] = {"covariates": covariate}
    if data:
        values["data"] = {"source": data}
    run_verb("directions", values, set_, as_json, replace=replace)
