"""Models against data."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.app.result import StepResult
from medgan.app.run import MANIFEST, Run, facts
from medgan.app.steps.scans import read_manifest
from medgan.core.config import Config
from medgan.core.errors import ConfigError, about
from medgan.core.progress import counting
from medgan.data.dicom.conversion import CONVERTED
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import PRIVATE_KEY, Pseudonyms, write_private_key
from medgan.data.splits import (
    joined,
)

if TYPE_CHECKING:
    from medgan.data.manifest import Case
    from medgan.studies.generated_sets import Contestant


log = logging.getLogger(__name__)


def baseline_step(run: Run) -> StepResult:
    """Trains a generator from the literature and writes its samples."""
    from medgan.studies.generated_sets import make_baseline

    values = make_baseline(run.config, run.manifest(), run.out, facts())
    log.info("baseline: %s", values)
    return StepResult(values, commands=(f"medgan compare {run.out} MODEL --data YOUR_SCANS",))


def compare_step(run: Run) -> StepResult:
    """Compares synthetic volumes of models and baselines with real ones."""
    from medgan.studies.comparison import compare
    from medgan.studies.generated_sets import read_contestant
    from medgan.training.fit import choose_device

    device = choose_device(run.config.train.device)
    settings = run.config.compare
    contestants = (read_contestant(uri, run.model, settings.count) for uri in settings.models)
    values = compare(contestants, run.manifest(), run.out, settings, device)
    log.info("comparison: %s", run.out / "comparison.json")
    return _tabled(values)


def utility_step(run: Run) -> StepResult:
    """Trains networks with and without synthetic scans and tests them on real ones."""
    from medgan.studies.utility import PAGE, utility

    return _tabled(utility(run.manifest(), run.out, run.config, facts()), run.out / PAGE)


def audit_step(run: Run) -> StepResult:
    """Asks whether a model, or what it generates, gives away the scans it was trained on."""
    from medgan.studies.audit import PAGE, audit
    from medgan.studies.cohort_split import both_sides
    from medgan.studies.generated_sets import read_contestant

    settings = run.config.audit
    manifest, key = _members_and_others(run.config, run.out / CONVERTED)
    write_private_key(run.out / PRIVATE_KEY, key)
    manifest.save(run.out / MANIFEST)
    run.refuse(manifest.refusals)
    both_sides(manifest)  # what is wrong with it is said before hundreds of scans are drawn
    contestant = read_contestant(settings.model, run.model, settings.count, settings.seed)
    model = run.model(settings.model) if contestant.has_model else None
    values = audit(contestant, model, manifest, run.out, settings, facts())
    return StepResult(
        values, tuple(values.pop("lines")), run.out / PAGE, passed=values["verdict"] == "passed"
    )


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
        one = data.model_copy(update={"source": source, "splits": "", "assign": split})
        with about(f"audit.{setting}"):
            sides.append(read_manifest(one, converted))
    return joined(sides[0][0], sides[1][0]), [row for _, key in sides for row in key]


def evaluate_step(run: Run) -> StepResult:
    """Measures synthetic scans against real ones: figures, a page."""
    from medgan.studies.fidelity import PAGE, evaluate
    from medgan.training.fit import choose_device

    config, manifest = run.config, run.manifest()
    values = evaluate(
        _judged(run, manifest), manifest, run.out, config.evaluate, config.data,
        choose_device(config.train.device),
    )  # fmt: skip
    return _tabled(values, run.out / PAGE)


def _judged(run: Run, manifest: Manifest) -> "Contestant | list[Case]":
    """What a model or a baseline makes, or the scans of a data set.

    Raises:
        ConfigError: E_USAGE.
        DataError: E_NO_SCANS, E_LAYOUT.
    """
    from medgan.studies.fidelity import real_cases, set_size
    from medgan.studies.generated_sets import makes_volumes, read_contestant

    settings = run.config.evaluate
    if not settings.fake:
        raise ConfigError("E_USAGE", "evaluate.fake", "none named", "name synthetic scans")
    if makes_volumes(settings.fake):
        subjects = [case.subject for case in real_cases(manifest, settings.splits)]
        count = settings.count or len(subjects)
        set_size(subjects, count)  # too few are found out before any is drawn
        return read_contestant(settings.fake, run.model, count)
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
    if not config.localiser.volumes:
        raise ConfigError(
            "E_VALUE", "localiser.volumes", "is 0: there would be no localiser to evaluate",
            "set it, such as to 24000",
        )  # fmt: skip
    values = run_benchmark(
        run.model(), run.manifest(), run.out, config.detection, config.localiser, config.train.seed
    )
    log.info("detection: %s", run.out / REPORT)
    return _tabled(values)


def _tabled(values: dict[str, Any], page: Path | None = None) -> StepResult:
    """What a study found, with its table to print."""
    return StepResult(values, tuple(values["table"].splitlines()), page)
