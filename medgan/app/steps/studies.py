"""Models against data."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.app.result import StepResult
from medgan.app.run import MANIFEST, Run, facts
from medgan.app.steps.scans import read_manifest
from medgan.core.config import Config
from medgan.core.errors import ConfigError, ModelError, about, require_one_channel
from medgan.core.progress import counting
from medgan.data.dicom.conversion import CONVERTED
from medgan.data.index import index
from medgan.data.manifest import SPLITS, Manifest
from medgan.data.pseudonyms import PRIVATE_KEY, Pseudonyms, write_private_key
from medgan.data.splits import joined, sections_of

if TYPE_CHECKING:
    from medgan.data.manifest import Case
    from medgan.data.shape_library import LesionShape
    from medgan.model.model import Model
    from medgan.studies.generated_sets import GeneratedSet


log = logging.getLogger(__name__)


def baseline_step(run: Run) -> StepResult:
    """Trains a generator from the literature and writes its samples."""
    from medgan.studies.generated_sets import make_baseline

    require_one_channel("a baseline", run.manifest().channels)
    values = make_baseline(run.config, run.manifest(), run.out, facts(), run.refuse)
    log.info("baseline: %s", values)
    return StepResult(values, commands=(f"medgan compare {run.out} MODEL --data YOUR_SCANS",))


def compare_step(run: Run) -> StepResult:
    """Compares synthetic volumes of models and baselines with real ones."""
    from medgan.networks.device import choose_device
    from medgan.studies.comparison import COUNT, compare
    from medgan.studies.generated_sets import read_generated_set

    require_one_channel("a comparison", run.manifest().channels)
    device = choose_device(run.config.train.device)
    settings = run.config.compare
    generated_sets = (read_generated_set(uri, run.model, COUNT) for uri in settings.models)
    values = compare(generated_sets, run.manifest(), run.out, settings, device, run.refuse)
    log.info("comparison: %s", run.out / "comparison.json")
    return _tabled(values)


def convergence_step(run: Run) -> StepResult:
    """Measures how many minutes generators take to given kernel distances."""
    from medgan.studies.convergence.study import PLOT, REPORT, convergence

    require_one_channel("a comparison", run.manifest().channels)
    values = convergence(run.config, run.manifest(), run.out, run.refuse)
    log.info("convergence: %s, %s", run.out / REPORT, run.out / PLOT)
    return _tabled(values)


def utility_step(run: Run) -> StepResult:
    """Trains networks with and without synthetic scans and tests them on real ones."""
    from medgan.studies.utility.study import PAGE, utility

    require_one_channel("the utility study", run.manifest().channels)
    values = utility(run.manifest(), run.out, run.config, facts(), run.refuse)
    return _tabled(values, run.out / PAGE)


def audit_step(run: Run) -> StepResult:
    """Audits whether a model or its synthetic scans leak information about training scans."""
    from medgan.studies.audit import PAGE, audit
    from medgan.studies.cohort_split import members_and_held_out
    from medgan.studies.generated_sets import is_baseline, read_generated_set, undrawn

    settings, uri = run.config.audit, run.config.model_uri
    model = None if is_baseline(uri) else _auditable(run.model(uri))
    manifest, key = _members_and_others(run.config, run.out / CONVERTED)
    write_private_key(run.out / PRIVATE_KEY, key)
    manifest.save(run.out / MANIFEST)
    run.refuse(manifest.refusals)
    require_one_channel("an audit", manifest.channels)
    members_and_held_out(manifest)  # refused before hundreds of scans are generated
    seed = run.config.generate.seed
    if model is None or model.networks.synthesises:
        generated = read_generated_set(uri, run.model, settings.count, seed)
    else:
        generated = undrawn(model, uri)
    values = audit(generated, manifest, run.out, settings, seed, facts(), run.refuse)
    return StepResult(
        values, tuple(values.pop("lines")), run.out / PAGE, passed=values["verdict"] == "passed"
    )


def _auditable(model: "Model") -> "Model":
    """A model that draws scans or scores them, refused before any scan is read otherwise.

    Raises:
        ModelError: E_GENERATOR for one that makes one image of another.
        ConfigError: E_CHANNEL for several image channels.
    """
    if model.networks.translator is not None:
        raise ModelError(
            "E_GENERATOR", "the model", "makes one image of another: there is no audit of models "
            "that neither draw scans nor score them", "treat it and its images as patient data",
        )  # fmt: skip
    require_one_channel("an audit", model.preprocessing.channels)
    return model


def _members_and_others(
    config: Config, converted: Path
) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """Training scans and held-out ones, in two places or in the splits of one, and their key."""
    settings, data = config.audit, config.data
    if bool(settings.train) != bool(settings.holdout) or bool(settings.train) == bool(data.source):
        raise ConfigError(
            "E_USAGE", "audit", "needs two sets of scans, once",
            "give --train and --holdout, or --data with data.splits",
        )  # fmt: skip
    if data.source:
        return read_manifest(data, converted)
    sides = []
    for setting, split in (("train", "train"), ("holdout", "test")):
        source = getattr(settings, setting)
        one = data.model_copy(update={"source": source, "splits": split})
        with about(f"audit.{setting}"):
            sides.append(read_manifest(one, converted))
    return joined(sides[0][0], sides[1][0]), [row for _, key in sides for row in key]


def evaluate_step(run: Run) -> StepResult:
    """Measures synthetic scans against real ones: metrics, a page."""
    from medgan.networks.device import choose_device
    from medgan.studies.fidelity import PAGE, evaluate

    config, manifest = run.config, run.manifest()
    require_one_channel("an evaluation", manifest.channels)
    values = evaluate(
        _synthetic(run, manifest), manifest, run.out, config.evaluate, config.data,
        choose_device(config.train.device), run.refuse,
    )  # fmt: skip
    return _tabled(values, run.out / PAGE)


def _synthetic(run: Run, manifest: Manifest) -> "GeneratedSet | list[Case]":
    """The generated set of a model or a baseline, or the scans of a folder.

    Raises:
        ConfigError: E_USAGE.
        DataError: E_NO_SCANS, E_LAYOUT.
    """
    from medgan.studies.fidelity import real_cases, set_size
    from medgan.studies.generated_sets import is_generator, read_generated_set

    settings = run.config.evaluate
    if not settings.fake:
        raise ConfigError("E_USAGE", "evaluate.fake", "none named", "name synthetic scans")
    if is_generator(settings.fake):
        subjects = [case.subject for case in real_cases(manifest, settings.splits)]
        count = settings.count or len(subjects)
        set_size(subjects, count)  # too few are refused before any is generated
        return read_generated_set(settings.fake, run.model, count)
    with counting("checking synthetic scans") as tick, about("evaluate.fake"):
        found, _ = index(
            Path(settings.fake),
            Pseudonyms.of_site(),
            run.config.data.suffix,
            tick,
            run.out / CONVERTED,
        )
    run.refuse(found.refusals)
    return list(found.cases)


def detection_step(run: Run) -> StepResult:
    """Evaluates every scorer on lesions planted into the test split."""
    from medgan.studies.detection.benchmark import REPORT, run_benchmark

    config = run.config
    if config.detection.families and not config.localiser.volumes:
        raise ConfigError(
            "E_VALUE", "localiser.volumes", "is 0: there would be no localiser to evaluate",
            "set it, such as to 24000",
        )  # fmt: skip
    require_one_channel("the lesion benchmark", run.manifest().channels)
    values = run_benchmark(
        run.model(), run.manifest(), run.out, config.detection, config.localiser,
        config.train.seed, run.refuse, _test_shapes(config),
    )  # fmt: skip
    log.info("detection: %s", run.out / REPORT)
    return _tabled(values)


def _test_shapes(config: Config) -> "tuple[LesionShape, ...]":
    """Shapes of real lesions to plant: of a folder that the file of splits names, its test ones."""
    from medgan.data.shape_library import read_shapes

    named, splits = config.detection.shapes, config.data.splits
    if not named and not config.detection.families:
        raise ConfigError(
            "E_VALUE", "detection.families", "is empty and there are no shapes either",
            "name some, or detection.shapes",
        )  # fmt: skip
    if not named:
        return ()
    source = Path(named)
    tested = ()
    if splits and splits not in SPLITS and source.is_dir():
        tested = sections_of(Path(splits)).get(source.resolve().name, {}).get("test", ())
    return read_shapes(source, tested)


def lesions_step(run: Run) -> StepResult:
    """Evaluates the model's maps and floors on masks of real lesions."""
    from medgan.studies.detection.patients import PICTURE, REPORT, run_patients

    model, settings = run.model(), run.config.lesions
    data = run.config.data
    if len(model.preprocessing.channels) > 1 and not data.channels:
        data = data.model_copy(update={"channels": model.preprocessing.channels})
    tested = data.model_copy(update={"splits": "test", "healthy": {}})
    patients, key = read_manifest(tested, run.out / CONVERTED, run.scans.keep)
    run.refuse(patients.refusals)
    healthy = None
    if settings.healthy:
        source = {"source": settings.healthy, "subjects": (), "session": ""}
        with about("lesions.healthy"):
            healthy, more = read_manifest(data.model_copy(update=source), run.out / CONVERTED)
        run.refuse(healthy.refusals)
        key = [*key, *more]
    write_private_key(run.out / PRIVATE_KEY, key)
    patients.save(run.out / MANIFEST)
    values = run_patients(
        model, patients, healthy, run.out, settings, run.refuse, run.scans.read
    )  # fmt: skip
    log.info("real lesions: %s, %s", run.out / REPORT, run.out / PICTURE)
    return _tabled(values)


def translation_step(run: Run) -> StepResult:
    """Evaluates translations of test patients beside floors."""
    from medgan.studies.translation.benchmark import REPORT, run_translation
    from medgan.studies.translation.report import OWN

    others = run.config.translation.others
    models = {OWN: run.model(), **{name: run.model(uri) for name, uri in others.items()}}
    data = run.config.data
    if not data.channels:
        data = data.model_copy(update={"channels": models[OWN].preprocessing.channels})
    manifest, key = read_manifest(data, run.out / CONVERTED, run.scans.keep)
    run.refuse(manifest.refusals)
    write_private_key(run.out / PRIVATE_KEY, key)
    manifest.save(run.out / MANIFEST)
    values = run_translation(models, manifest, run.out, run.refuse, run.scans.read)
    log.info("translation: %s", run.out / REPORT)
    return _tabled(values)


def super_resolution_step(run: Run) -> StepResult:
    """Measures the model on thick slices of test scans, beside interpolation."""
    from medgan.studies.super_resolution.benchmark import (
        OURS,
        PICTURE,
        REPORT,
        run_super_resolution,
    )

    settings, manifest = run.config.resolution, run.manifest()
    require_one_channel("the benchmark of super-resolution", manifest.channels)
    models = {OURS: run.model(), **{n: run.model(uri) for n, uri in settings.others.items()}}
    values = run_super_resolution(models, manifest, run.out, settings, run.refuse)
    log.info("super-resolution: %s, %s", run.out / REPORT, run.out / PICTURE)
    return _tabled(values)


def _tabled(values: dict[str, Any], page: Path | None = None) -> StepResult:
    """What a study found, with its table to print."""
    return StepResult(values, tuple(values["table"].splitlines()), page)
