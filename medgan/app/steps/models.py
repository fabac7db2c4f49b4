"""From a manifest to a model that is trained, calibrated and registered."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from medgan.app.result import StepResult, written
from medgan.app.run import Run, check_tracking, facts, open_mirror, open_mlflow
from medgan.core.config import ImageTask
from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.progress import counting
from medgan.tracking.tracker import Trackers

if TYPE_CHECKING:
    from medgan.anomaly.calibration import Calibration
    from medgan.anomaly.choice import Choice, Maps
    from medgan.data.manifest import Case
    from medgan.data.prepare import PreparedScan
    from medgan.model.anomaly import Choose
    from medgan.model.model import Model

log = logging.getLogger(__name__)


def train_step(run: Run) -> StepResult:
    """Trains on the training split and writes the model folder; resumes by itself."""
    from medgan.reporting.training import TrainingPage
    from medgan.training.fit import train_model

    if run.ranks.leads:
        check_tracking(run)
    page = TrainingPage(run.out)
    values = train_model(
        run.config, run.manifest(), run.out, run.model_folder, facts(), lambda: open_mirror(run),
        Trackers([page, run.follow]) if run.follow else page, run.scans, run.refuse, run.start(),
        run.ranks,
    )  # fmt: skip
    train = run.config.train
    along = train.along if train.task == "sequence" else ""
    commands = _what_next(str(run.model_folder), train.task, "calibrate" in run.steps, along)
    return StepResult(values, commands=commands)


def bare_step(run: Run) -> StepResult:
    """Writes a model without generator and restorer, which the steps after it teach to score."""
    from medgan.training.bare import bare_model

    model = bare_model(run.config, run.manifest(), run.out, facts(), run.scans, run.start())
    model.save(run.model_folder)
    return StepResult({"model": str(run.model_folder)})


def scorers_step(run: Run) -> StepResult | None:
    """Learns from the training scans what scorers need, and saves the model again.

    Feature densities always; a localiser of planted lesions where `localiser.volumes` is not 0, or
    where the model that the training started from has one: that one learns on, or stays as it is.
    """
    from medgan.core.seeding import seeded
    from medgan.data.batches import PreparedVolumes
    from medgan.model.fresh_networks import fresh_localiser
    from medgan.training.localiser import FAMILIES, localiser_inputs, train_localiser

    settings, model = run.config.localiser, run.model()
    cases = run.manifest().split("train")
    prepared = PreparedVolumes(cases, model.preprocessing, run.out / "cache")
    run.ranks.after_leader(lambda: run.refuse(prepared.warm()))
    model.learn_densities(prepared.batches)
    families, seed, start = list(FAMILIES), run.config.train.seed, run.start()
    known = None if start is None else start.networks.localiser
    inputs = localiser_inputs(model.scoring_networks()) if known is None else known.inputs
    with seeded(seed, model.device):
        localiser = fresh_localiser(model.preprocessing, model.sizes, inputs)
    if known is not None:
        localiser.load_state_dict(known.state_dict())
    localiser.to(model.device)
    seen = 0
    if settings.volumes:
        with counting("localiser") as tick:
            seen = train_localiser(
                model.scoring_networks(), model.sizes.latent, localiser,
                [prepared.arrays(n)[0] for n in range(len(prepared))],
                families, settings, seed, run.out / "checkpoints", tick,
                "" if start is None or known is None else start.digest, run.ranks,
            )  # fmt: skip
    if not run.ranks.leads:
        return None
    if settings.volumes or known is not None:
        model.networks.localiser = localiser.requires_grad_(False)
        learned = ", ".join(families)
        if start is not None and not settings.volumes:
            learned = str(start.facts.get("localiser_families", learned))
        before = 0 if start is None or known is None else start.facts.get("localiser_volumes", 0)
        model.facts |= {"localiser_families": learned, "localiser_volumes": int(before) + seen}
        done = "learned" if settings.volumes else "taken over"
        log.info("localiser: %s, with %d families of lesions", done, len(learned.split(", ")))
    model.save(run.model_folder)
    return StepResult({"densities": len(model.densities), "volumes": settings.volumes})


def calibrate_step(run: Run) -> StepResult:
    """Calibrates the scores on the calibration split and saves the model again."""
    from medgan.anomaly.calibration import ScoringConfig
    from medgan.data.conditions import Value, covariate_of
    from medgan.data.reading import usable
    from medgan.model.inversion import encode

    model = run.model()
    cases = run.manifest().split("calibration")
    settings = run.config.score
    names = settings.covariates
    scoring_config = ScoringConfig(settings.scorers, settings.top_fraction, dict(names))
    covariates: list[dict[str, Value]] = []
    latents: list[np.ndarray] = []

    def prepared(case: "Case") -> "PreparedScan":
        scan = model.prepare(run.scans.read(case, False), case.case)
        if model.hull is not None:
            latents.append(encode(model, scan).numpy())
        covariates.append({**case.covariates, **{n: covariate_of(case, n) for n in names}})
        return scan

    with counting("calibrating") as tick:
        scans, refusals = usable(cases, prepared)
        known = settings.scorers or model.calibration
        choose = None if known else _choice_on_validation_scans(run, model)
        model.calibrate(scans, scoring_config, tick, len(cases), covariates, choose)
    if model.hull is not None:
        model.hull = model.hull.calibrated(np.stack(latents))
    run.refuse(refusals)
    folder = run.model_folder
    if run.config.model_uri and not run.config.model_uri.startswith(("models:/", "runs:/")):
        folder = Path(run.config.model_uri)
    model.facts["calibration_digest"] = run.manifest().digest
    model.save(folder)
    log.info("calibrated on %d healthy scans: %s", len(cases) - len(refusals), folder)
    if "train" in run.results:
        _record_model(run, folder)
    return StepResult({"scans": len(cases) - len(refusals), "model": str(folder)})


def _record_model(run: Run, folder: Path) -> None:
    """Puts a trained model into MLflow; a store that cannot be used costs only that copy."""
    try:
        if (tracker := open_mlflow(run)) is not None:
            with tracker:
                run.results["train"].values["run"] = tracker.model(folder)
    except EnvironmentFailure as error:
        log.warning("%s; the model is not in MLflow: medgan register %s", error, folder)


def _choice_on_validation_scans(run: Run, model: "Model") -> "Choose | None":
    """How scorers are chosen; None where there are too few validation scans to choose on."""
    from medgan.data.batches import PreparedVolumes
    from medgan.training.trials import MIN_SCANS, choose_scorers

    cases = run.manifest().split("validation")
    prepared = PreparedVolumes(cases, model.preprocessing, run.out / "cache")
    run.refuse(prepared.warm())
    if len(prepared) < MIN_SCANS:
        return None
    volumes = [prepared.arrays(number)[0] for number in range(len(prepared))]

    def choose(maps: "Maps", calibration: "Calibration") -> "Choice":
        with counting("choosing scorers") as tick:
            return choose_scorers(maps, calibration, volumes, run.config.train.seed, tick)

    return choose


def share_step(run: Run) -> StepResult:
    """Writes the model without its discriminator, in half precision."""
    from medgan.model.folder import holds_discriminator

    model, folder = run.model(), run.model_folder
    if Path(run.config.model_uri).resolve() == folder.resolve():
        raise ConfigError(
            "E_USAGE", "-o", "the model itself lies there", "name another folder for the result"
        )
    if holds_discriminator(folder):
        raise ConfigError(
            "E_USAGE", "-o", "a model with its discriminator lies there and would be lost",
            "name another folder for the result",
        )  # fmt: skip
    model.share(folder)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    log.info("to hand on, once audited: %s, %.1f MB", folder, size / 1e6)
    return StepResult({"model": str(folder), "bytes": size}, written("share", folder))


def register_step(run: Run) -> StepResult | None:
    """Records the model folder in MLflow and registers it under name and alias."""
    from medgan.model.folder import CARD
    from medgan.tracking.loading import load
    from medgan.tracking.registry import content_of, register
    from medgan.tracking.versions import CONTENT

    if run.config.model_uri.startswith(("models:/", "runs:/")):
        raise ConfigError(
            "E_USAGE", run.config.model_uri, "is in MLflow already", "register a model folder"
        )
    if not run.writing_uri():
        log.info("tracking is off: the model is not registered")
        return None
    folder = Path(run.config.model_uri) if run.config.model_uri else run.model_folder
    model = load(str(folder))
    tracker = open_mlflow(run)
    assert tracker is not None
    settings = run.config.tracking
    tags = {key: str(value) for key, value in model.facts.items()} | {CONTENT: content_of(folder)}
    uri = run.writing_uri()
    with tracker:
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        recorded = tracker.mlflow_model(folder)
        version = register(recorded, uri, settings.name, settings.alias, tags, text)
    address = f"models:/{settings.name}@{settings.alias}"
    log.info("registered version %s as %s", version, address)
    values = {"uri": address, "version": version, "tracking_uri": uri}
    translator = model.networks.translator
    task = "synthesis" if model.networks.synthesises else "restoration"
    if translator is not None:
        task = translator.conversion.task
    conditions = model.preprocessing.conditions
    along = next((one.name for one in conditions if one.kind == "periodic"), "")
    scores = model.calibration is not None
    return StepResult(values, commands=_what_next(address, task, scores, along, uri))


def _what_next(
    model: str, task: str, scores: bool, along: str = "", store: str = ""
) -> tuple[str, ...]:
    """Commands that use a model.

    Args:
        model: its folder or address.
        task: that it was trained for.
        scores: whether it is calibrated, or will be by a later step.
        along: the condition that is the time of its sequences; empty where it draws none.
        store: where it is registered.
    """
    more = f" --set tracking.uri={store}" if store else ""
    commands = []
    if task == "lesions":
        commands.append(f"medgan lesions {model} HEALTHY --examples PATIENTS -o runs/drawn{more}")
    elif task in get_args(ImageTask):
        commands.append(f"medgan translate {model} YOUR_SCANS -o runs/translate{more}")
    elif along:
        commands.append(f"medgan series {model} seed:0 --along {along} -n 20 -o runs/series{more}")
    elif task == "synthesis":
        commands.append(f"medgan generate {model} -n 100 -o runs/synthetic{more}")
    if scores:
        commands.append(f"medgan score {model} YOUR_SCANS -o runs/score{more}")
    elif task == "restoration":
        commands.append(f"medgan calibrate {model} HEALTHY -o runs/calibrate{more}")
    if store.startswith("sqlite:///"):
        commands.append(f"make ui STORE={store.removeprefix('sqlite:///')}")
    return tuple(commands)


def load_back_step(run: Run) -> None:
    """From here on the pipeline uses the model as the registry gives it back."""
    if "register" in run.results:
        uri = run.results["register"].values["uri"]
        run.config = run.config.model_copy(update={"model_uri": uri})
        run.model()
        log.info("loaded back from %s", run.config.model_uri)
