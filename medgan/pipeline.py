"""Runs the steps of a pipelines/*.yaml.

Steps hand over through files in one folder, so any of them can be run again alone.
"""

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import medgan
from medgan.config import Config, DataConfig, Preprocessing, build, merge, read_yaml
from medgan.data.conditions import count_categories, lacking
from medgan.data.index import index
from medgan.data.layouts import is_manifest
from medgan.data.manifest import Manifest
from medgan.data.plan import plan
from medgan.data.pseudonyms import PRIVATE_KEY, Pseudonyms, write_private_key
from medgan.data.splits import (
    joined,
    read_splits,
    with_drawn_splits,
    with_given_splits,
    with_health,
)
from medgan.errors import ConfigError, DataError
from medgan.files import locked, sweep, write_atomic
from medgan.progress import counting
from medgan.run import MANIFEST, Run, facts, open_mlflow

if TYPE_CHECKING:
    from medgan.data.manifest import Case
    from medgan.results import Latent
    from medgan.studies.contestants import Contestant
    from medgan.training.forecast import Forecast

log = logging.getLogger(__name__)
RESOLVED = "config.yaml"


def phantoms(run: Run) -> None:
    """Makes the procedural cohort and points the data section at it."""
    from medgan.data.phantoms import make_cohort

    if run.config.data.source:
        raise ConfigError(
            "E_USAGE", "data.source", "this pipeline makes its own scans",
            "train on yours with `medgan train train --data SCANS`, or `make demo DATA=SCANS`",
        )  # fmt: skip
    settings = run.config.phantoms
    folder = run.out / "cohort"
    cohort = make_cohort(folder, settings.healthy, settings.lesioned, settings.shape,
                         settings.spacing, settings.seed)  # fmt: skip
    run.set("data", source=str(cohort), healthy={"diagnosis": ["healthy"]})
    run.results["phantoms"] = {"healthy": settings.healthy, "lesioned": settings.lesioned}
    log.info("phantoms: %d healthy, %d with a lesion", settings.healthy, settings.lesioned)


def index_step(run: Run) -> None:
    """Checks every scan, draws or reads the splits, writes the manifest and the refusals."""
    manifest, key = _read_manifest(run.config.data)
    write_private_key(run.out / PRIVATE_KEY, key)
    manifest.save(run.out / MANIFEST)
    run.refuse(manifest.refusals)
    if not manifest.cases:
        raise DataError(
            "E_NO_SCANS", "the data set", f"none of {len(key)} scans is usable",
            f"see refused.csv and {PRIVATE_KEY} in {run.out}",
        )  # fmt: skip
    counts = {split: len(manifest.split(split)) for split in ("train", "calibration", "test")}
    run.results["index"] = {
        "cases": len(manifest.cases), **counts, "refused": len(manifest.refusals),
        "manifest": str(run.out / MANIFEST),
    }  # fmt: skip
    log.info("scans: %s; %d refused", ", ".join(f"{n} {s}" for s, n in counts.items()),
             len(manifest.refusals))  # fmt: skip


def _read_manifest(settings: DataConfig) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """The manifest with splits, and the key from pseudonyms to files."""
    if not settings.source:
        raise ConfigError("E_NO_DATA", "data.source", "no scans named", "give DATA or --data")
    pseudonyms = Pseudonyms.of_site()
    source = Path(settings.source)
    with counting("checking scans") as tick:
        manifest, key = index(source, pseudonyms, settings.suffix, tick)
    if settings.healthy:
        manifest = with_health(manifest, settings.healthy)
    if settings.splits:
        splits = read_splits(Path(settings.splits), source)
        manifest = with_given_splits(manifest, splits, pseudonyms)
    elif settings.assign != "draw":
        manifest = manifest.with_all_in(settings.assign)
    elif is_manifest(source):
        manifest = manifest.with_sick_tested()
    else:
        manifest = with_drawn_splits(manifest, settings.fractions, settings.seed)
    return manifest, key


def train_step(run: Run) -> None:
    """Trains on the training split and writes the model folder; resumes by itself."""
    from medgan.training.session import train_model

    run.results["train"] = train_model(
        run.config, run.manifest(), run.out, run.model_folder, facts(), lambda: open_mlflow(run)
    )


def scorers_step(run: Run) -> None:
    """Learns from the training scans all that scores need, and saves the model again.

    What is usual at each place always; planted lesions, where a localiser is wanted.
    """
    from medgan.data.lesions import FAMILIES
    from medgan.data.loaders import PreparedVolumes
    from medgan.model_folder import fresh_localiser
    from medgan.randomness import seeded
    from medgan.training.localise import train_localiser

    settings, model = run.config.localiser, run.model()
    cases = run.manifest().split("train")
    prepared = PreparedVolumes(cases, model.preprocessing, run.out / "cache")
    model.learn_densities(prepared.batches)
    families = [name for name in FAMILIES if name not in settings.leave_out]
    if settings.volumes:
        seed = run.config.train.seed
        with seeded(seed, model.device):
            localiser = fresh_localiser(model.sizes, settings.looks_at)
        with counting("localiser") as tick:
            train_localiser(
                model.tools(), model.sizes.latent, localiser,
                [prepared.arrays(n)[0] for n in range(len(cases))],
                families, settings, seed, run.out / "checkpoints", tick,
            )  # fmt: skip
        model.networks.localiser = localiser.requires_grad_(False)
        model.facts["localiser_families"] = ", ".join(families)
        log.info("localiser: %d families of lesions learned", len(families))
    model.save(run.model_folder)
    run.results["scorers"] = {"densities": len(model.densities), "volumes": settings.volumes}


def calibrate_step(run: Run) -> None:
    """Calibrates the scores on the calibration split and saves the model again."""
    from medgan.scoring.calibration import Recipe

    model = run.model()
    cases = run.manifest().split("calibration")
    settings = run.config.score
    recipe = Recipe(
        settings.scorers, settings.top, settings.sign, settings.erosion, settings.median
    )
    with counting("calibrating") as tick:
        model.calibrate([case.image for case in cases], recipe, tick)
    folder = run.model_folder
    if run.config.model_uri and not run.config.model_uri.startswith(("models:/", "runs:/")):
        folder = Path(run.config.model_uri)
    model.facts["calibration_digest"] = run.manifest().digest
    model.save(folder)
    run.results["calibrate"] = {"scans": len(cases), "model": str(folder)}
    log.info("calibrated on %d healthy scans: %s", len(cases), folder)
    if "train" in run.results and (tracker := open_mlflow(run)) is not None:
        run.results["train"]["run"] = tracker.model(folder)
        tracker.finish()


def register_step(run: Run) -> None:
    """Records the model folder in MLflow and registers it under name and alias."""
    from medgan.tracking.registry import register

    tracker = open_mlflow(run)
    if tracker is None:
        log.info("tracking is off: the model is not registered")
        return
    if run.config.model_uri.startswith(("models:/", "runs:/")):
        raise ConfigError(
            "E_USAGE", run.config.model_uri, "is in MLflow already", "register a model folder"
        )
    folder = Path(run.config.model_uri) if run.config.model_uri else run.model_folder
    model = medgan.load(str(folder))
    settings = run.config.tracking
    tags = {key: str(value) for key, value in model.facts.items()}
    uri = run.writing_uri()
    version = register(tracker.model(folder), uri, settings.name, settings.alias, tags)
    tracker.finish()
    address = f"models:/{settings.name}@{settings.alias}"
    run.results["register"] = {"uri": address, "version": version, "tracking_uri": uri}
    log.info("registered version %s as %s", version, address)


def load_back(run: Run) -> None:
    """From here on the pipeline uses the model as the registry gives it back."""
    if "register" in run.results:
        run.config = run.config.model_copy(update={"model_uri": run.results["register"]["uri"]})
        run.model()
        log.info("loaded back from %s", run.config.model_uri)


def generate_step(run: Run) -> None:
    """Writes synthetic scans as a Decathlon data set, with provenance."""
    from medgan.synthetic import write_synthetic

    settings = run.config.generate
    wanted = [settings.conditions] * settings.count
    if settings.balance:
        wanted = _lacking_scans(run)
    if not wanted:
        run.results["generate"] = {"count": 0}
        return
    with counting("generating") as tick:
        folder = write_synthetic(
            run.model(), run.out / settings.folder, len(wanted), settings.seed, facts(),
            settings.smallest_component, wanted, settings.truncation, tick,
        )  # fmt: skip
    run.results["generate"] = {"count": len(wanted), "folder": str(folder)}
    log.info("%d synthetic scans: %s", len(wanted), folder)


def _lacking_scans(run: Run) -> list[dict[str, str]]:
    """What each scan has to be for all categories to be as many as the largest.

    Raises:
        ConfigError: E_CONDITION, E_NO_DATA.
    """
    settings, source = run.config.generate, run.config.data.source
    name, known = settings.balance, run.model().preprocessing.conditions
    if name not in [c.name for c in known if c.kind == "categorical"]:
        names = ", ".join(c.name for c in known if c.kind == "categorical") or "none"
        raise ConfigError(
            "E_CONDITION", name, "no categorical condition of this model", f"it has {names}"
        )
    if not source:
        raise ConfigError("E_NO_DATA", "data.source", "no scans to balance", "give --data")
    with counting("checking scans") as tick:
        manifest, _ = index(Path(source), Pseudonyms.of_site(), run.config.data.suffix, tick)
    if manifest.refusals:
        run.refuse(manifest.refusals)
    counts = count_categories(manifest.cases, name)
    log.info("%s: %s", name, ", ".join(f"{n} {value}" for value, n in counts.items()) or "unknown")
    missing = lacking(counts)
    if not missing:
        log.info("nothing to balance: all categories of %s are equally many", name)
    return [{**settings.conditions, name: value} for value, n in missing.items() for _ in range(n)]


def baseline_step(run: Run) -> None:
    """Trains a generator from the literature and writes its samples."""
    from medgan.studies.contestants import make_baseline

    run.results["baseline"] = make_baseline(run.config, run.manifest(), run.out, facts())
    log.info("baseline: %s", run.results["baseline"])


def compare_step(run: Run) -> None:
    """Compares synthetic volumes of models and baselines with real ones."""
    from medgan.studies.comparison import compare
    from medgan.studies.contestants import read_contestant
    from medgan.training.session import choose_device

    device = choose_device(run.config.train.device)
    settings = run.config.compare
    contestants = (read_contestant(uri, run.model, settings.count) for uri in settings.models)
    run.results["compare"] = compare(contestants, run.manifest(), run.out, settings, device)
    log.info("comparison: %s", run.out / "comparison.json")


def utility_step(run: Run) -> None:
    """Trains networks with and without synthetic scans and tests them on real ones."""
    from medgan.studies.utility import PAGE, utility

    found = utility(run.manifest(), run.out, run.config, facts())
    run.results["utility"] = found | {"page": str(run.out / PAGE)}


def augment_step(run: Run) -> None:
    """Writes a training set of real and synthetic scans."""
    from medgan.mixing.session import augment

    found = augment(run.model(), run.manifest(), run.out, run.config, facts())
    run.results["augment"] = found
    log.info("%d synthetic scans: %s", found["kept"], run.out)


def audit_step(run: Run) -> None:
    """Asks whether a model, or what it generates, gives away the scans it was trained on."""
    from medgan.studies.audit import audit
    from medgan.studies.contestants import read_contestant

    settings = run.config.audit
    manifest, key = _members_and_others(run.config)
    write_private_key(run.out / PRIVATE_KEY, key)
    manifest.save(run.out / MANIFEST)
    run.refuse(manifest.refusals)
    contestant = read_contestant(settings.model, run.model, settings.count, settings.seed)
    model = run.model(settings.model) if contestant.has_model else None
    run.results["audit"] = audit(contestant, model, manifest, run.out, settings, facts())


def _members_and_others(config: Config) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """Training scans and held-out ones, in two places or in the splits of one, and their key."""
    settings, data = config.audit, config.data
    if bool(settings.train) != bool(settings.holdout) or bool(settings.train) == bool(data.source):
        raise ConfigError(
            "E_USAGE", "audit", "needs two sets of scans, once",
            "give --train and --holdout, or --data with data.splits",
        )  # fmt: skip
    if data.source:
        return _read_manifest(data)
    sides = [
        _read_manifest(data.model_copy(update={"source": source, "splits": "", "assign": split}))
        for source, split in ((settings.train, "train"), (settings.holdout, "test"))
    ]
    return joined(sides[0][0], sides[1][0]), [row for _, key in sides for row in key]


def evaluate_step(run: Run) -> None:
    """Measures synthetic scans against real ones: figures, a page."""
    from medgan.studies.realism import PAGE, evaluate
    from medgan.training.session import choose_device

    config, manifest = run.config, run.manifest()
    found = evaluate(
        _judged(run, manifest), manifest, run.out, config.evaluate, config.data,
        choose_device(config.train.device),
    )  # fmt: skip
    run.results["evaluate"] = found | {"page": str(run.out / PAGE)}


def _judged(run: Run, manifest: Manifest) -> "Contestant | list[Case]":
    """What a model or a baseline makes, or the scans of a data set.

    Raises:
        ConfigError: E_USAGE.
        DataError: E_NO_SCANS, E_LAYOUT.
    """
    from medgan.studies.contestants import makes_volumes, read_contestant
    from medgan.studies.realism import real_cases

    settings = run.config.evaluate
    if not settings.fake:
        raise ConfigError("E_USAGE", "evaluate.fake", "none named", "name synthetic scans")
    if makes_volumes(settings.fake):
        count = settings.count or len(real_cases(manifest, settings.splits))
        return read_contestant(settings.fake, run.model, count)
    with counting("checking synthetic scans") as tick:
        found, _ = index(Path(settings.fake), Pseudonyms.of_site(), run.config.data.suffix, tick)
    run.refuse(found.refusals)
    return list(found.cases)


def detection_step(run: Run) -> None:
    """Plants lesions into the test split and judges every scorer on them."""
    from medgan.studies.detection import REPORT, detect

    config = run.config
    if not config.localiser.volumes:
        raise ConfigError(
            "E_VALUE", "localiser.volumes", "is 0: there would be no localiser to judge",
            "set it, such as to 24000",
        )  # fmt: skip
    run.results["detection"] = detect(
        run.model(), run.manifest(), run.out, config.detection, config.localiser, config.train.seed
    )
    log.info("detection: %s", run.out / REPORT)


def score_step(run: Run) -> None:
    """Scores the test split: scores.csv, scores.json and maps in each scan's own grid."""
    from medgan.cohort import score_cases

    cases = run.manifest().split("test")
    if not cases:
        log.warning("no scans in the test split: nothing to score")
        return
    folder = run.out / run.config.score.folder
    known = bool(run.config.data.healthy)
    with counting("scoring") as tick:
        rows, refusals = score_cases(run.model(), cases, folder, run.config.score, known, tick)
    run.refuse(refusals)
    run.results["score"] = {"scans": len(rows), "folder": str(folder)}
    log.info("scored %d scans: %s", len(rows), folder / "scores.csv")


def project_step(run: Run) -> None:
    """Projects the test split: reconstructions, latents, errors, pictures."""
    from medgan.exploration import write_projections

    cases = run.manifest().split("test")
    with counting("projecting") as tick:
        rows, refusals = write_projections(
            run.model(), cases, run.out, run.config.latent.steps, facts(), tick
        )
    run.refuse(refusals)
    run.results["project"] = {"scans": len(rows), "folder": str(run.out)}
    log.info("projected %d scans: %s", len(rows), run.out / "latents.csv")


def edit_step(run: Run) -> None:
    """Edits the test split along covariates: before, after, difference, pictures."""
    from medgan.exploration import write_edits

    settings = run.config.latent
    if not settings.changes:
        raise ConfigError(
            "E_CONDITION", "latent.changes", "nothing to change", "ask with --set age=80"
        )
    with counting("editing") as tick:
        rows, refusals = write_edits(
            run.model(), run.manifest().split("test"), run.out, settings.changes, settings.known,
            settings.steps, facts(), tick,
        )  # fmt: skip
    run.refuse(refusals)
    run.results["edit"] = {"scans": len(rows), "folder": str(run.out)}
    log.info("edited %d scans: %s", len(rows), run.out / "after")


def interpolate_step(run: Run) -> None:
    """Writes scans on the way between two, and a picture of them."""
    from medgan.exploration import write_interpolation

    settings, smallest = run.config.latent, run.config.generate.smallest_component
    (name_a, a), (name_b, b) = (_end(run, text) for text in settings.ends)
    folder = write_interpolation(
        run.model(), run.out, (a, b), (name_a, name_b), settings.frames, smallest, facts(),
    )  # fmt: skip
    run.results["interpolate"] = {"frames": settings.frames, "folder": str(folder)}
    log.info("%d frames: %s", settings.frames, folder / "strip.png")


def _end(run: Run, text: str) -> "tuple[str, Latent]":
    """An end of an interpolation and the name under which it may be published.

    Raises:
        ConfigError: E_USAGE.
        DataError: E_NO_SCANS, or why the scan is refused.
    """
    drawn = re.fullmatch(r"seed:(\d+)(?:/(\d+))?", text)
    if drawn:
        seed, number = int(drawn[1]), int(drawn[2] or 0)
        settings = run.config.generate
        latent = run.model().draw(seed, number, settings.conditions, settings.truncation)
        return f"seed {seed} number {number}", latent
    manifest, _ = index(Path(text), Pseudonyms.of_site())
    for refusal in manifest.refusals:
        raise DataError(refusal.code, refusal.case, refusal.what, refusal.remedy)
    if len(manifest.cases) != 1:
        raise ConfigError("E_USAGE", "latent.ends", "not one scan", "name a NIfTI file or seed:3")
    case = manifest.cases[0]
    return case.case, run.model().project(case.image, run.config.latent.steps).latent


def report_step(run: Run) -> None:
    """Writes one self-contained HTML page of what the folder holds."""
    from medgan.report.page import write_page

    page = write_page(run.out, run.config.report.scans)
    run.results["report"] = {"page": str(page)}
    log.info("page: %s", page)


STEPS: dict[str, Callable[[Run], None]] = {
    "phantoms": phantoms,
    "index": index_step,
    "train": train_step,
    "scorers": scorers_step,
    "calibrate": calibrate_step,
    "register": register_step,
    "load_back": load_back,
    "generate": generate_step,
    "baseline": baseline_step,
    "compare": compare_step,
    "utility": utility_step,
    "augment": augment_step,
    "audit": audit_step,
    "evaluate": evaluate_step,
    "detection": detection_step,
    "score": score_step,
    "project": project_step,
    "interpolate": interpolate_step,
    "edit": edit_step,
    "report": report_step,
}


def run_pipeline(name: str, overrides: list[str]) -> Run:
    """Runs every step of a pipeline file in order.

    Args:
        name: path of a YAML file, or the name of one in `pipelines/`.
        overrides: `section.key=value`, which win over the file.

    Raises:
        MedganError: whatever a step cannot do; steps before it have left their files.
    """
    steps, values = read_pipeline(name)
    run = Run(build(values, overrides))
    with locked(run.out):
        sweep(run.out)
        if "index" in steps:  # other pipelines work in the folder of one that had it
            write_atomic(run.out / RESOLVED, yaml.safe_dump(run.config.model_dump(mode="json")))
        for step in steps:
            started = time.monotonic()
            STEPS[step](run)
            log.debug("%s took %.1f s", step, time.monotonic() - started)
    return run


def forecast_pipeline(name: str, overrides: list[str]) -> "Forecast":
    """What the training of a pipeline would take; writes nothing.

    Args:
        name: path of a YAML file, or the name of one in `pipelines/`.
        overrides: settings that win; without scans, `data.shape` says what to expect.

    Raises:
        ConfigError: E_NO_DATA when there is neither.
        DataError: E_SPLIT when no scan would be learned from.
    """
    from medgan.training.forecast import forecast

    config = build(read_pipeline(name)[1], overrides)
    data = config.data
    if data.source:
        cases = _read_manifest(data)[0].split("train")
        if not cases:
            raise DataError(
                "E_SPLIT", "the data set", "no training scans", "add healthy scans or set "
                "data.fractions",
            )  # fmt: skip
        return forecast(config, plan(data, cases))
    if data.shape == "auto":
        raise ConfigError(
            "E_NO_DATA", "data.source", "no scans and no grid named", "give --data or data.shape"
        )
    spacing = (1.0, 1.0, 1.0) if data.spacing == "auto" else data.spacing
    labels = () if data.labels == "auto" else data.labels
    return forecast(config, Preprocessing(spacing=spacing, shape=data.shape, labels=labels))


def read_pipeline(name: str) -> tuple[list[str], dict[str, Any]]:
    """Steps and settings of a pipeline file; `extends` names one to start from.

    Raises:
        ConfigError: E_MISSING, E_PIPELINE.
    """
    path = find_pipeline(name)
    values = read_yaml(path)
    unknown = set(values) - {"extends", "steps", "config"}
    if unknown:
        raise ConfigError(
            "E_PIPELINE", path.name, f"unknown key {min(unknown)}", "use extends, steps, config"
        )
    steps: list[str] = []
    config: dict[str, Any] = {}
    if "extends" in values:
        base = path.parent / f"{values['extends']}.yaml"
        steps, config = read_pipeline(str(base) if base.is_file() else values["extends"])
    steps = values.get("steps", steps)
    for step in steps:
        if step not in STEPS:
            raise ConfigError(
                "E_PIPELINE", path.name, f"unknown step {step}", f"use {', '.join(STEPS)}"
            )
    return steps, merge(config, values.get("config") or {})


def find_pipeline(name: str) -> Path:
    """A file as given, or one that ships with medgan.

    Raises:
        ConfigError: E_MISSING.
    """
    package = Path(medgan.__file__).parent
    places = [Path(name)]
    if Path(name).name == name:
        shipped = [package / "pipelines", package.parent / "pipelines"]
        places += [folder / f"{Path(name).stem}.yaml" for folder in shipped]
    for place in places:
        if place.is_file():
            return place
    names = sorted(p.stem for folder in places[1:] for p in folder.parent.glob("*.yaml"))
    raise ConfigError("E_MISSING", name, "no such pipeline", f"use a path or {', '.join(names)}")
