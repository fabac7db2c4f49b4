"""Verbs that use a model on scans, or to make scans."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medgan.app.cli.options import (
    Engine,
    Json,
    Model,
    Out,
    Preset,
    Replace,
    Set,
    ShardOf,
    Source,
    Workers,
    conditions,
    executor,
)
from medgan.app.cli.running import Answer, answer, refuse, run_verb


def generate(
    model: Model,
    count: Annotated[int, typer.Option("-n", "--count", help="synthetic scans to write")] = 8,
    seed: Annotated[int, typer.Option(help="seed of the latents")] = 0,
    text: Annotated[str, typer.Option(help='what they are of: "a 70-year-old woman"')] = "",
    balance: Annotated[
        str, typer.Option(help="condition whose rarer categories in --data are filled up")
    ] = "",
    data: Annotated[
        str, typer.Option(help="scans to balance, or manifest.json of the training to explain")
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="nearest training scans; what each condition changes")
    ] = False,
    out: Out = "runs/generate",
    engine: Engine = "",
    workers: Workers = None,
    shard: ShardOf = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write synthetic scans with labels as a Decathlon data set.

    A key of --set without a dot is a condition of the model: --set age=70 --set sex=F. --text says
    the same in words, and a word that is not understood is refused.

    Example: medgan generate runs/demo/model -n 100 -o runs/synthetic
    """
    values: dict[str, Any] = {
        "out": out,
        "model_uri": model,
        "generate": {"count": count, "seed": seed, "text": text, "balance": balance},
    }
    values |= executor(engine, workers, shard)
    if explain:
        values["generate"]["explain"] = True
    if data:
        values["data"] = {"source": data}
    run_verb("generate", values, conditions(set_), as_json, replace=replace)


def score(
    model: Model,
    source: Source,
    out: Out = "runs/score",
    format_: Annotated[
        str,
        typer.Option("--format", help="medgan; bids: derivatives; mood: the challenge's folders"),
    ] = "medgan",
    task: Annotated[str, typer.Option(help="of mood: pixel (default) or sample")] = "",
    engine: Engine = "",
    workers: Workers = None,
    shard: ShardOf = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Score scans: tables with p-values and regions, maps in each scan's own grid, pages.

    Example: medgan score models:/medgan@challenger scans -o runs/score
    """
    values: dict[str, Any] = {"out": out, "model_uri": model, "data": {"source": source}}
    if task and format_ != "mood":
        refuse("--task", "is for --format mood", "leave it out", as_json)
    spread = executor(engine, workers, shard)
    if format_ == "mood":
        if spread:
            refuse("--format mood", "has no workers and no shards", "leave them out", as_json)
        values["score"] = {"layout": f"mood-{task or 'pixel'}"}
        run_verb("mood", values, set_, as_json, replace=replace)
    values |= {"score": {"layout": format_}, **spread}
    _expect_workers(source, engine, workers)
    run_verb("score", values, set_, as_json, replace=replace)


def translate(
    model: Model,
    source: Source,
    answers: Annotated[int, typer.Option(help="answers with noise, for the spread")] = 8,
    seed: Annotated[int, typer.Option(help="seed of the answers")] = 0,
    out: Out = "runs/translate",
    engine: Engine = "",
    workers: Workers = None,
    shard: ShardOf = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Make another image of scans, such as CT of MR: images, spread of the answers, pictures.

    Example: medgan translate runs/mr2ct/model scans -o runs/translate
    """
    values = {
        "out": out,
        "model_uri": model,
        "data": {"source": source},
        "translate": {"answers": answers, "seed": seed},
        **executor(engine, workers, shard),
    }
    _expect_workers(source, engine, workers)
    run_verb("translate", values, set_, as_json, replace=replace)


def augment(
    model: Model,
    source: Annotated[str, typer.Argument(help="scans it was trained on, or their manifest.json")],
    ratio: Annotated[float, typer.Option(help="synthetic scans for each real training scan")] = 1.0,
    balance: Annotated[
        str, typer.Option(help="condition whose rarer categories are filled up first")
    ] = "",
    seed: Annotated[int, typer.Option(help="seed of the latents")] = 0,
    out: Out = "runs/augment",
    config: Preset = "",
    shard: ShardOf = "",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write a training set of real and synthetic scans that MONAI and nnU-Net read as is.

    Candidates that are not good enough, or too like a training scan, are dropped and replaced.

    Example: medgan augment runs/mine/model runs/mine/manifest.json --ratio 1 -o runs/mixed
    """
    values = {
        "out": out,
        "model_uri": model,
        "data": {"source": source},
        "augment": {"ratio": ratio},
        "generate": {"seed": seed, "balance": balance},
        **executor("", None, shard),
    }
    run_verb("augment", values, conditions(set_), as_json, config, replace=replace)


def merge(
    out: Annotated[str, typer.Argument(help="folder that shards were worked on in")],
    as_json: Json = False,
) -> None:
    """Merge the shards of a folder into one table, with q-values over all scans, and one page.

    The last shard to end does so by itself. Says which shards are missing.

    Example: medgan merge runs/score
    """

    def work() -> Answer:
        from medgan.app.merging import merge_shards

        done = merge_shards(Path(out))
        return Answer(done.as_json(), done.closing_lines(), int(done.exit_status))

    answer(work, as_json)


def lesions(
    model: Annotated[str, typer.Argument(help="model of the task lesions, which refines, or none")],
    source: Annotated[str, typer.Argument(help="healthy scans, in any layout")],
    examples: Annotated[
        str, typer.Option(help="labelled scans of patients, to learn what lesions look like")
    ] = "",
    masks: Annotated[
        str, typer.Option(help="shapes, examples, label, or a folder of masks in MNI space")
    ] = "",
    each: Annotated[int, typer.Option("-n", "--each", help="scans drawn from each scan")] = 1,
    seed: Annotated[int, typer.Option(help="seed of masks, places and appearance")] = 0,
    out: Out = "runs/lesions",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Draw lesions with exact masks into healthy scans, as a data set for MONAI and nnU-Net.

    Beyond a margin around each lesion the scan stays the same to the bit.

    Example: medgan lesions none healthy --examples patients --masks examples -o runs/drawn
    """
    draw: dict[str, Any] = {"each": each, "seed": seed, "examples": examples}
    if masks:
        draw["masks"] = masks
    values = {
        "out": out, "model_uri": "" if model == "none" else model,
        "data": {"source": source}, "draw": draw,
    }  # fmt: skip
    run_verb("draw_lesions", values, set_, as_json, replace=replace)


def export_dicom(
    scores: Annotated[str, typer.Argument(help="folder of a scoring")],
    source: Annotated[str, typer.Option(help="the DICOM that was scored")],
    out: Annotated[
        str, typer.Option("-o", "--out", help="folder for patient data, apart from the scores")
    ] = "runs/export-dicom",
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Write scores of DICOM for the PACS: parametric maps, segmentations, pictures.

    They carry the patient and study of the series they were made from. Needs medgan[dicom].

    Example: medgan export-dicom runs/score --source /path/to/new -o /private/export
    """

    def work() -> Answer:
        from dataclasses import asdict

        from medgan.app.folder import Aside, claim, hidden, note
        from medgan.core.errors import Exit
        from medgan.core.progress import counting
        from medgan.workflows.dicom import export_dicom

        verb, names, folder = "export-dicom", ("c-*",), Path(out)
        wanted = {"scores": hidden(scores), "source": hidden(source)}
        replaces = claim(folder, verb, names, wanted, replace) or replace
        with Aside(folder) as aside:
            if replaces:
                aside.take(folder, names, [Path(scores).resolve(), Path(source).resolve()])
            try:
                with counting("writing DICOM") as tick:
                    done, refusals = export_dicom(Path(scores), Path(source), folder, tick)
            finally:
                if any(folder.glob(names[0])):
                    note(folder, verb, wanted)
        for refusal in refusals:
            print(f"medgan: {refusal}", file=sys.stderr)
        values = {"scans": done, "folder": out, "refused": [asdict(r) for r in refusals]}
        lines = [f"written   {out}", "note      it holds names of patients: for the PACS only"]
        return Answer(values, lines, Exit.REFUSED if refusals else Exit.DONE)

    answer(work, as_json)


def _expect_workers(source: str, engine: str, workers: int | None) -> None:
    from medgan.workflows.executor.forks import expect_workers  # help does without

    expect_workers(source, engine, workers)
