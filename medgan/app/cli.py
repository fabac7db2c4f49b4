"""The command line: verbs that run a pipeline file, a few lines each."""

import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    help="Learn healthy 3D anatomy; get synthetic scans and calibrated anomaly maps. "
    "Research use only.",
    epilog="Exit status: 0 done, 2 wrong usage, 3 some scans refused and the rest done, "
    "4 disk, memory, device or server failed, 5 training diverged, 70 internal fault, "
    "75 stopped and resumable.",
)
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="section.key=value; repeat")
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Out = Annotated[str, typer.Option("-o", "--out", help="folder that receives everything")]
Model = Annotated[str, typer.Argument(help="folder, models:/name@alias or runs:/id/model")]
Source = Annotated[
    str, typer.Argument(help="folder of NIfTI or DICOM, BIDS tree, Decathlon folder or CSV")
]


def _presets(incomplete: str) -> list[str]:
    """Names of shipped pipelines, for the shell's completion."""
    from medgan.app.presets import shipped_pipelines

    return [name for name in shipped_pipelines() if name.startswith(incomplete)]


Preset = Annotated[
    str,
    typer.Option(
        help="pipeline whose data section holds, as for its training", autocompletion=_presets
    ),
]
Pipeline = Annotated[
    str,
    typer.Argument(help="pipeline file or the name of a shipped one", autocompletion=_presets),
]

_STATE = {"debug": False}


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option(help="tracebacks for errors that should not happen")
    ] = False,
) -> None:
    """Options of every verb."""
    _STATE["debug"] = debug


@app.command()
def check(source: Source, out: Out = "runs/check", set_: Set = None, as_json: Json = False) -> None:
    """Index and validate scans; write the manifest and the table of refusals.

    Example: medgan check scans -o runs/check
    """
    _run("check", out, [_set("data.source", source)], set_, as_json)


@app.command()
def train(
    config: Pipeline,
    data: Annotated[str, typer.Option(help="scans to learn from")] = "",
    out: Out = "runs/train",
    resume: Annotated[str, typer.Option(help="auto or never")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what it takes: parameters, memory, time")
    ] = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train and calibrate a model; the same command resumes.

    Example: medgan train ixi_brain_2mm --data scans -o runs/ixi --set train.minutes=60
    """
    first = [_set("data.source", data)] if data else []
    if dry_run:
        _guard(as_json, lambda: _forecast(config, [*first, *(set_ or [])], as_json))
    _run(config, out, [*first, _set("train.resume", resume)], set_, as_json)


@app.command()
def generate(
    model: Model,
    count: Annotated[int, typer.Option("-n", "--count", help="synthetic scans to write")] = 8,
    seed: Annotated[int, typer.Option(help="seed of the latents")] = 0,
    balance: Annotated[
        str, typer.Option(help="condition whose rarer categories in --data are filled up")
    ] = "",
    data: Annotated[str, typer.Option(help="scans to balance")] = "",
    out: Out = "runs/generate",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write synthetic scans with labels as a Decathlon data set.

    A key of --set without a dot is a condition of the model: --set age=70 --set sex=F.

    Example: medgan generate runs/demo/model -n 100 -o runs/synthetic
    """
    first = [
        _set("model_uri", model),
        _set("generate.count", count),
        _set("generate.seed", seed),
        _set("generate.balance", balance),
    ]
    first += [_set("data.source", data)] if data else []
    _run("generate", out, first, [_of_condition(text) for text in set_ or []], as_json)


def _of_condition(text: str, of: str = "generate.conditions") -> str:
    """`age=70` as `generate.conditions.age=70`; settings proper as they are."""
    from medgan.core.config import Config

    key, separator, _ = text.partition("=")
    setting = "." in key or key.strip() in Config.model_fields
    return text if setting or not separator else f"{of}.{text.strip()}"


@app.command()
def calibrate(
    model: Model, healthy: Source, out: Out = "runs/calibrate", set_: Set = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Calibrate a model's scores on healthy scans of one's own scanner.

    A model folder is calibrated in place; a registered model is copied to OUT/model.

    Example: medgan calibrate runs/demo/model healthy_scans
    """
    first = [_set("model_uri", model), _set("data.source", healthy)]
    _run("calibrate", out, first, set_, as_json)


@app.command()
def score(
    model: Model,
    source: Source,
    out: Out = "runs/score",
    format_: Annotated[
        str,
        typer.Option("--format", help="medgan; bids: derivatives; mood: the challenge's folders"),
    ] = "medgan",
    task: Annotated[str, typer.Option(help="of mood: sample or pixel")] = "pixel",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Score scans: tables with p-values and regions, maps in each scan's own grid, pages.

    Example: medgan score models:/medgan@challenger scans -o runs/score
    """
    if format_ not in ("medgan", "bids"):
        _guard(as_json, lambda: _mood(format_, task, model, source, out, as_json))
    first = [_set("model_uri", model), _set("data.source", source), _set("score.layout", format_)]
    _run("score", out, first, set_, as_json)


@app.command()
def export_dicom(
    scores: Annotated[str, typer.Argument(help="folder of a scoring")],
    source: Annotated[str, typer.Option(help="the DICOM that was scored")],
    out: Annotated[
        str, typer.Option("-o", "--out", help="folder for patient data, apart from the scores")
    ] = "runs/export-dicom",
    as_json: Json = False,
) -> None:
    """Write scores of DICOM for the PACS: parametric maps, segmentations, pictures.

    They carry the patient and study of the series they were made from. Needs medgan[dicom].

    Example: medgan export-dicom runs/score --source /path/to/new -o /private/export
    """
    _guard(as_json, lambda: _export(scores, source, out, as_json))


@app.command()
def project(
    model: Model, source: Source, out: Out = "runs/project", set_: Set = None, as_json: Json = False
) -> None:
    """Find the latents that draw real scans best; errors, reconstructions, pictures.

    Example: medgan project runs/ixi/model scans -o runs/project
    """
    first = [_set("model_uri", model), _set("data.source", source)]
    _run("project", out, first, set_, as_json)


@app.command()
def interpolate(
    model: Model,
    a: Annotated[str, typer.Argument(help="NIfTI file, seed:3, or seed:3/5 for its number 5")],
    b: Annotated[str, typer.Argument(help="likewise")],
    count: Annotated[int, typer.Option("-n", "--count", help="scans, both ends included")] = 8,
    out: Out = "runs/interpolate",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write synthetic scans on the way between two, and a picture of them.

    A key of --set without a dot is a condition of ends that are seeds: --set sex=F.

    Example: medgan interpolate runs/ixi/model seed:3 seed:7 -n 8 -o runs/way
    """
    first = [
        _set("model_uri", model),
        f"latent.ends={json.dumps([a, b])}",
        _set("latent.frames", count),
    ]
    _run("interpolate", out, first, [_of_condition(text) for text in set_ or []], as_json)


@app.command()
def edit(
    model: Model,
    source: Source,
    known: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="what is known of the scan; repeat"),
    ] = None,
    out: Out = "runs/edit",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Change real scans along a model's conditions: the same brain, older.

    A key of --set without a dot is a condition to change: --set age=80.

    Example: medgan edit runs/ixi/model scan.nii.gz --known age=55 --set age=80 -o runs/older
    """
    first = [_set("model_uri", model), _set("data.source", source)]
    more = [f"latent.known.{text.strip()}" for text in known or []]
    more += [_of_condition(text, "latent.changes") for text in set_ or []]
    _run("edit", out, first, more, as_json)


@app.command()
def share(model: Model, out: Out = "runs/share", set_: Set = None, as_json: Json = False) -> None:
    """Write a model to hand on: half precision, and no discriminator, which gives away most.

    The model is OUT/model. Audit it before it leaves.

    Example: medgan share runs/ixi/model -o runs/share
    """
    _run("share", out, [_set("model_uri", model)], set_, as_json)


@app.command()
def register(
    model: Annotated[str, typer.Argument(help="model folder")],
    name: Annotated[str, typer.Option(help="registered model")] = "medgan",
    alias: Annotated[str, typer.Option(help="alias to set")] = "challenger",
    out: Annotated[str, typer.Option("-o", "--out", help="run's folder; beside the model")] = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Register a model folder in MLflow under a name and an alias.

    Example: medgan register runs/ixi/model --name brain --alias champion
    """
    from pathlib import Path

    in_mlflow = model.startswith(("models:/", "runs:/"))
    out = out or ("runs/register" if in_mlflow else str(Path(model).parent))
    first = [
        _set("model_uri", model),
        _set("tracking.name", name),
        _set("tracking.alias", alias),
    ]
    _run("register", out, first, set_, as_json)


@app.command()
def phantoms(out: Out = "runs/phantoms", set_: Set = None, as_json: Json = False) -> None:
    """Make a cohort of procedural head phantoms, some with a lesion.

    Example: medgan phantoms -o runs/phantoms --set phantoms.healthy=100
    """
    _run("phantoms", out, [], set_, as_json)


@app.command()
def report(out: Out, set_: Set = None, as_json: Json = False) -> None:
    """Write the page of a folder that holds a training or scores.

    Example: medgan report -o runs/demo
    """
    _run("report", out, [], set_, as_json)


@app.command()
def run(
    pipeline: Pipeline,
    data: Annotated[str, typer.Option(help="scans to read")] = "",
    out: Out = "runs/latest",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Run the steps of any pipeline file.

    Example: medgan run demo -o runs/demo
    """
    _run(pipeline, out, [_set("data.source", data)] if data else [], set_, as_json)


@app.command()
def baseline(
    name: Annotated[str, typer.Argument(help="alpha_wgan, dcgan or vae")],
    data: Annotated[str, typer.Option(help="scans to learn from")],
    out: Out = "runs/baseline",
    config: Preset = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train a generator from the literature and write its samples, to compare with.

    Example: medgan baseline dcgan --data scans -o runs/dcgan --set train.minutes=60
    """
    first = [_set("data.source", data), _set("baseline.name", name)]
    _run("baseline", out, first, set_, as_json, config)


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(help="models and folders of baselines")],
    data: Annotated[str, typer.Option(help="scans they were trained on, and were not")],
    out: Out = "runs/compare",
    config: Preset = "",
    segmentation: Annotated[bool, typer.Option(help="train segmenters too; takes long")] = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Compare synthetic volumes with held-out real ones, one row a generator.

    Example: medgan compare runs/hippocampus/model runs/dcgan --data scans -o runs/compare
    """
    first = [
        _set("data.source", data),
        _set("compare.models", models),
        _set("compare.segmentation", segmentation),
    ]
    _run("compare", out, first, set_, as_json, config)


@app.command()
def utility(
    data: Annotated[
        str, typer.Option(help="scans with splits: to learn from, and to be tested on")
    ],
    out: Out = "runs/utility",
    config: Preset = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Train networks with and without synthetic scans; test them on real ones.

    Generators learn from the same few real scans. The same command goes on where it stopped.

    Example: medgan utility --data scans --config msd_hippocampus --set train.minutes=20
    """
    sections = ("data", "model", "train")
    _run("utility", out, [_set("data.source", data)], set_, as_json, config, sections)


@app.command()
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
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write a training set of real and synthetic scans that MONAI and nnU-Net read as is.

    Candidates that are not good enough, or too like a training scan, are dropped and replaced.

    Example: medgan augment runs/mine/model runs/mine/manifest.json --ratio 1 -o runs/mixed
    """
    first = [
        _set("model_uri", model),
        _set("data.source", source),
        f"augment.ratio={ratio}",
        _set("augment.balance", balance),
        _set("generate.seed", seed),
    ]
    _run("augment", out, first, [_of_condition(text) for text in set_ or []], as_json, config)


@app.command()
def audit(
    model: Annotated[str, typer.Argument(help="model, or folder of a baseline")],
    train: Annotated[str, typer.Option(help="scans it was trained on")] = "",
    holdout: Annotated[str, typer.Option(help="scans of people it was not trained on")] = "",
    data: Annotated[str, typer.Option(help="both at once, with data.splits")] = "",
    out: Out = "runs/audit",
    config: Preset = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Ask whether a model or its synthetic scans give away the scans it was trained on.

    Example: medgan audit runs/mine/model --train scans --holdout others -o runs/audit
    """
    first = [
        _set("audit.model", model),
        _set("audit.train", train),
        _set("audit.holdout", holdout),
        *([_set("data.source", data)] if data else []),
    ]
    _run("audit", out, first, set_, as_json, config)


@app.command()
def evaluate(
    real: Annotated[str, typer.Argument(help="real scans: folder, BIDS, Decathlon, CSV")],
    fake: Annotated[str, typer.Argument(help="synthetic scans, a model, a folder of a baseline")],
    count: Annotated[
        int, typer.Option("-n", "--count", help="scans that a model makes; 0: as many as real")
    ] = 0,
    out: Out = "runs/evaluate",
    config: Preset = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure whether synthetic scans are real and varied enough, beside what real scans give.

    Example: medgan evaluate scans runs/hippocampus/model -n 200 -o runs/evaluate
    """
    first = [
        _set("data.source", real),
        _set("evaluate.fake", fake),
        _set("evaluate.count", count),
    ]
    _run("evaluate", out, first, set_, as_json, config)


@app.command()
def doctor(out: Out = "runs/latest", set_: Set = None, as_json: Json = False) -> None:
    """Look whether this machine can do the work; status 4 where it cannot.

    Versions, device, memory, disks, folders, the site's secret, DICOM decoders, MLflow's store.

    Example: medgan doctor -o runs/mine
    """
    _guard(as_json, lambda: _doctor(out, set_ or [], as_json))


bench = typer.Typer(
    no_args_is_help=True, help="Measure speed and memory, or how well lesions are found."
)
app.add_typer(bench, name="bench")


@bench.command()
def detection(
    model: Model,
    data: Annotated[str, typer.Option(help="scans it was trained on, and was not")],
    out: Out = "runs/detection",
    config: Preset = "",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Plant lesions into held-out scans and see which scorer finds them.

    What learns from planted lesions is judged on families that it never saw.

    Example: medgan bench detection runs/hippocampus/model --data scans -o runs/detection
    """
    first = [_set("model_uri", model), _set("data.source", data)]
    _run("detection", out, first, set_, as_json, config)


@bench.command()
def speed(
    presets: Annotated[
        list[str],
        typer.Argument(help="pipeline files or shipped names", autocompletion=_presets),
    ],
    steps: Annotated[int, typer.Option(help="timed steps")] = 6,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="generators from the literature too")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure training speed and memory, beside the convolution peak of this machine.

    Example: medgan bench speed msd_hippocampus --baselines
    """
    _guard(as_json, lambda: _speed(presets, steps, baselines, as_json))


def _doctor(out: str, overrides: list[str], as_json: bool) -> int:
    from pathlib import Path

    from medgan.app.doctor import examine, exit_status, render
    from medgan.core.config import build

    findings = examine(Path(out), build({}, overrides).tracking.uri)
    print(render(findings, as_json))
    return int(exit_status(findings))


def _forecast(config: str, overrides: list[str], as_json: bool) -> int:
    from medgan.app.pipeline import forecast_pipeline

    found = forecast_pipeline(config, overrides)
    print(json.dumps(found.as_json(), indent=1) if as_json else "\n".join(found.lines()))
    return 0


def _speed(presets: list[str], steps: int, baselines: bool, as_json: bool) -> int:
    from medgan.app.bench import MEDGAN, bench, table
    from medgan.app.pipeline import read_pipeline
    from medgan.studies.generated_sets import BASELINES

    generators = [MEDGAN, *(BASELINES if baselines else ())]
    rows = [
        bench(name, read_pipeline(name)[1], generator, steps)
        for name in presets
        for generator in generators
    ]
    print(json.dumps(rows, indent=1) if as_json else table(rows))
    return 0


def _mood(format_: str, task: str, model: str, source: str, out: str, as_json: bool) -> int:
    from dataclasses import asdict
    from pathlib import Path

    from medgan.core.errors import ConfigError, Exit
    from medgan.core.progress import counting
    from medgan.tracking.loading import load
    from medgan.workflows.mood import TASKS, score_mood

    for option, value, known in (
        ("--format", format_, ("medgan", "bids", "mood")),
        ("--task", task, TASKS),
    ):
        if value not in known:
            raise ConfigError("E_VALUE", option, f"no {value!r}", f"give {' or '.join(known)}")
    with counting("scoring") as tick:
        refusals = score_mood(load(model), Path(source), Path(out), task, tick)
    if as_json:
        print(json.dumps({"folder": out, "refused": [asdict(r) for r in refusals]}))
    for refusal in refusals:
        text = f"{refusal.code} {refusal.case}: {refusal.what}; {refusal.remedy}"
        print(f"medgan: {text}", file=sys.stderr)
    return Exit.REFUSED if refusals else Exit.DONE


def _export(scores: str, source: str, out: str, as_json: bool) -> int:
    from dataclasses import asdict
    from pathlib import Path

    from medgan.core.errors import Exit
    from medgan.core.progress import counting
    from medgan.workflows.dicom import export_dicom

    with counting("writing DICOM") as tick:
        done, refusals = export_dicom(Path(scores), Path(source), Path(out), tick)
    if as_json:
        found = [asdict(refusal) for refusal in refusals]
        print(json.dumps({"scans": done, "folder": out, "refused": found}))
    else:
        print(f"written   {out}")
        print("note      it holds names of patients: for the PACS only")
    for refusal in refusals:
        text = f"{refusal.code} {refusal.case}: {refusal.what}; {refusal.remedy}"
        print(f"medgan: {text}", file=sys.stderr)
    return Exit.REFUSED if refusals else Exit.DONE


def _set(key: str, value: str | int | list[str] | dict[str, Any]) -> str:
    """An override that YAML reads back as it is, whatever a path looks like."""
    return f"{key}={json.dumps(value)}"


def _run(
    pipeline: str, out: str, first: list[str], more: list[str] | None, as_json: bool,
    preset: str = "", sections: Sequence[str] = ("data",),
) -> None:  # fmt: skip
    """Runs a pipeline; what the verb sets comes first, so that --set wins."""

    def work() -> int:
        from medgan.app.pipeline import read_pipeline, run_pipeline

        described = read_pipeline(preset)[1] if preset else {}
        taken = [_set(name, described[name]) for name in sections if name in described]
        overrides = [*taken, _set("out", out), *first, *(more or [])]
        done = run_pipeline(pipeline, overrides)
        if as_json:
            refused = [vars(refusal) for refusal in done.refusals]
            print(json.dumps({"out": str(done.out), **done.results, "refusals": refused}, indent=1))
        else:
            for line in done.closing_lines():
                print(line)
        return int(done.exit_status)

    _guard(as_json, work)


def _guard(as_json: bool, work: Callable[[], int]) -> None:
    """Turns errors into one line and an exit status."""
    from medgan.core.errors import CodedError, as_coded

    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("medgan").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        raise typer.Exit(work())
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if _STATE["debug"] and not isinstance(error, CodedError):
            raise
        failure = as_coded(error)
        if as_json:
            parts = ("code", "where", "what", "remedy")
            print(json.dumps({"error": {part: getattr(failure, part) for part in parts}}))
        print(f"medgan: {failure}", file=sys.stderr)
        raise typer.Exit(int(failure.exit_status)) from None


def _stop(number: int, frame: object) -> None:
    """SIGTERM and Ctrl-C before or after a training; while it runs it has handlers of its own."""
    from medgan.core.errors import Interrupted

    raise Interrupted("E_STOPPED", "medgan", "asked to stop", "run the same command again")


def main() -> None:
    """Entry point of the command `medgan`."""
    app(prog_name="medgan")
