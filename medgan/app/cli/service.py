"""Verbs around the work: any pipeline, report pages, checks of the machine, speed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medgan.app.cli.options import Json, Out, OutOfFile, Pipeline, Pipelines, Replace, Set
from medgan.app.cli.running import Answer, answer, run_verb


def run(
    pipeline: Pipeline,
    data: Annotated[str, typer.Option(help="scans to read")] = "",
    model: Annotated[
        str, typer.Option(help="model to use: folder, models:/name@alias or runs:/id/model")
    ] = "",
    out: OutOfFile = "",
    replace: Replace = False,
    first: Annotated[
        str, typer.Option("--from", metavar="STEP", help="do this step and those after it")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="do unchanged steps, too")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done and why, and write nothing")
    ] = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Run the steps of any pipeline file; steps that are unchanged since the last time are skipped.

    Example: medgan run demo -o runs/demo --dry-run
    """
    values: dict[str, Any] = {"out": out} if out else {}
    values |= {"data": {"source": data}} if data else {}
    values |= {"model_uri": model} if model else {}

    def plan() -> Answer:
        from medgan.app.done import plan_lines
        from medgan.app.pipeline import Again, plan_pipeline

        steps, reasons = plan_pipeline(pipeline, set_ or (), values, Again(first, force))
        return Answer(dict(zip(steps, reasons, strict=True)), plan_lines(steps, reasons))

    if dry_run:
        answer(plan, as_json)
    else:
        run_verb(pipeline, values, set_, as_json, replace=replace, again=(first, force))


def report(out: Out, set_: Set = None, as_json: Json = False) -> None:
    """Write the page of a folder that holds a training or scores.

    Example: medgan report -o runs/demo
    """
    run_verb("report", {"out": out}, set_, as_json)


def sync(
    run: Annotated[str, typer.Argument(help="folder of a training or a sweep that is over")],
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Send MLflow what it has not got of a training: metrics, pictures, settings, status.

    For trainings without a server, and for sweeps of them. A second call sends nothing twice.

    Example: medgan sync runs/demo --set tracking.uri=http://mlflow.example:5000
    """

    def work() -> Answer:
        from dataclasses import asdict

        from medgan.app.sync import sync as send
        from medgan.app.sync import with_trials

        done = [send(folder, set_ or ()) for folder in with_trials(Path(run))]
        trials = {"trials": [asdict(one) for one in done[1:]]} if len(done) > 1 else {}
        return Answer(asdict(done[0]) | trials, [line for one in done for line in one.lines()])

    answer(work, as_json)


def doctor(out: Out = "runs/latest", set_: Set = None, as_json: Json = False) -> None:
    """Check whether this machine can do the work; status 4 where it cannot.

    Versions, device, memory, disks, folders, the site's secret, DICOM decoders, MLflow's store.

    Example: medgan doctor -o runs/mine
    """

    def work() -> Answer:
        from dataclasses import asdict

        from medgan.app.doctor import examine, exit_status
        from medgan.core.config import build

        findings = examine(Path(out), build({}, set_ or ()).tracking.uri)
        values = {"findings": [asdict(finding) for finding in findings]}
        return Answer(values, [str(finding) for finding in findings], exit_status(findings))

    answer(work, as_json)


def device(
    out: Out = "runs/gpu-check",
    data: Annotated[str, typer.Option(help="scans for the training; its own without any")] = "",
    training: Annotated[
        str, typer.Option(help="preset; ixi_brain_2mm with --data, else phantoms")
    ] = "",
    edges: Annotated[
        list[int] | None, typer.Option("--edge", help="of cubes; repeat; 64, 128 and 256")
    ] = None,
    minutes: Annotated[float, typer.Option(help="of the training; 0 for none")] = 5,
    limit: Annotated[float, typer.Option(help="minutes of the whole check")] = 10,
    where: Annotated[str, typer.Option("--device", help="auto, cpu or cuda")] = "auto",
    as_json: Json = False,
) -> None:
    """Check a machine with a GPU: speed, memory, loader and a short training, as JSON and a page.

    Example: medgan bench device --data brains -o runs/gpu-check
    """

    def work() -> Answer:
        from medgan.app.device_check import PAGE, check_device

        preset = training or ("ixi_brain_2mm" if data else "phantoms")
        sizes = edges or [64, 128, 256]
        found = check_device(Path(out), sizes, minutes, limit, preset, data, where)
        failed = [row for row in (*found["steps"], found["loader"], found["training"]) if row]
        lines = [
            f"{row['task']:12} {row['edge']}³  {row.get('volumes_per_second', 'failed')} a second"
            for row in found["steps"]
        ]
        status = 4 if any("failed" in row for row in failed) else 0
        return Answer(found, [*lines, f"page      {Path(out) / PAGE}"], status)

    answer(work, as_json)


def others(
    preset: Pipeline = "msd_hippocampus",
    out: Out = "runs/others",
    data: Annotated[str, typer.Option(help="scans; phantoms without any")] = "",
    scans: Annotated[int, typer.Option(help="how many of them")] = 24,
    turns: Annotated[int, typer.Option(help="of each program, one after the other")] = 5,
    where: Annotated[str, typer.Option("--device", help="auto, cpu or cuda")] = "auto",
    as_json: Json = False,
) -> None:
    """Measure training step, loader and scoring beside MONAI, TorchIO, anomalib, HA-GAN, f-AnoGAN.

    Libraries that are not installed are named in the table: pip install 'medgan[bench]'.

    Example: medgan bench others msd_hippocampus --data msd_hippocampus -o runs/others
    """

    def work() -> Answer:
        from medgan.app.others import PAGE, compare_with_others

        found = compare_with_others(Path(out), preset, data, scans, turns, where)
        return Answer(found, [found["table"], f"page      {Path(out) / PAGE}"])

    answer(work, as_json)


def speed(
    presets: Pipelines,
    steps: Annotated[int, typer.Option(help="timed steps")] = 6,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="generators from the literature too")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure training speed and memory, beside the convolution peak of this machine.

    Example: medgan bench speed msd_hippocampus --baselines
    """

    def work() -> Answer:
        from medgan.app.bench import MEDGAN, bench, table
        from medgan.app.pipeline_files import read_pipeline
        from medgan.studies.generated_sets import BASELINES

        generators = [MEDGAN, *(BASELINES if baselines else ())]
        rows = [
            bench(name, read_pipeline(name)[1], generator, steps)
            for name in presets
            for generator in generators
        ]
        return Answer(rows, [table(rows)])

    answer(work, as_json)
