"""Synthetic scans, alone and mixed with real ones."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.app.result import StepResult, written
from medgan.app.run import MANIFEST, Run, facts
from medgan.app.steps.scans import index_step, read_manifest
from medgan.core.errors import ConfigError, DataError, about, require_one_channel
from medgan.core.progress import counting
from medgan.data.categories import count_categories, lacking
from medgan.data.conditions import UNKNOWN
from medgan.data.dicom.conversion import CONVERTED
from medgan.data.index import index
from medgan.data.layouts.manifest import matches as is_manifest
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.sentence import covariates_of_sentence
from medgan.model.covariate_direction import PREFIX
from medgan.workflows.augmented.requests import not_fixed

if TYPE_CHECKING:
    import numpy as np

    from medgan.model.outputs import Latent


log = logging.getLogger(__name__)


def generate_step(run: Run) -> StepResult:
    """Writes synthetic scans as a Decathlon data set, with provenance."""
    from medgan.workflows.generate import PAGE, write_synthetic

    _read_text(run)
    settings = run.config.generate
    if run.shard is not None and settings.explain:
        raise ConfigError(
            "E_VALUE", "generate.explain", "compares the scans of all shards",
            "leave it out, or generate without --shard",
        )  # fmt: skip
    wanted = [settings.conditions] * settings.count
    if settings.balance:
        wanted = _lacking_scans(run)
    if not wanted:
        return StepResult({"count": 0})
    with counting("generating") as tick:
        folder = write_synthetic(
            run.model(), run.folder("synthetic"), len(wanted), settings.seed, facts(),
            wanted, settings.truncation, tick, settings.dicom, settings.text, settings.first,
            _manifest_of_training(run) if settings.explain else None, run.executor(len(wanted)),
            run.shard,
        )  # fmt: skip
    log.info("%d synthetic scans: %s", len(wanted), folder)
    values = {"count": len(wanted), "folder": str(folder)}
    if run.shard is not None:
        return StepResult(values, written("generate", folder))
    return StepResult(values, written("generate", folder), page=folder / PAGE)


def _manifest_of_training(run: Run) -> Path:
    """The manifest of the scans that the model was trained on: the one named, or its neighbour.

    Raises:
        ConfigError: E_USAGE for scans that are named in another way.
    """
    settings = run.config
    if settings.data.source and not settings.generate.balance:
        source = Path(settings.data.source)
        if not is_manifest(source):
            raise ConfigError(
                "E_USAGE", "data.source", "is not the manifest of a training",
                "name its manifest.json, which tells training scans from others",
            )  # fmt: skip
        return source
    return _beside_model(run)


def _beside_model(run: Run) -> Path:
    """Where the manifest of a training lies, unless its model was moved."""
    return Path(run.config.model_uri or run.model_folder).parent / MANIFEST


def _read_text(run: Run) -> None:
    """Adds what generate.text asks for to generate.conditions.

    Raises:
        ConfigError: E_TEXT.
    """
    settings, known = run.config.generate, run.model().preprocessing.conditions
    run.set(
        "generate", conditions=covariates_of_sentence(settings.text, known, settings.conditions)
    )


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
    not_fixed(name, settings.conditions)
    if not source:
        raise ConfigError("E_NO_DATA", "data.source", "no scans to balance", "give --data")
    with counting("checking scans") as tick:
        manifest, _ = index(
            Path(source), Pseudonyms.of_site(), run.config.data.suffix, tick, run.out / CONVERTED
        )
    if manifest.refusals:
        run.refuse(manifest.refusals)
    counts = count_categories(manifest.cases, name)
    log.info("%s: %s", name, ", ".join(f"{n} {value}" for value, n in counts.items()) or "unknown")
    missing = lacking(counts)
    if not missing:
        log.info("nothing to balance: all categories of %s are equally many", name)
    return [{**settings.conditions, name: value} for value, n in missing.items() for _ in range(n)]


def augment_step(run: Run) -> StepResult:
    """Writes a training set of real and synthetic scans."""
    from medgan.workflows.augmented.data_set import augment

    require_one_channel("an augmented data set", run.model().preprocessing.channels)
    _read_text(run)
    values = augment(run.model(), run.manifest(), run.out, run.config, facts(), run.refuse)
    log.info("%d synthetic scans: %s", values["kept"], run.out)
    return StepResult(values, tuple(values.pop("lines")))


def draw_lesions_step(run: Run) -> StepResult:
    """Writes healthy scans with lesions drawn into them, and the masks."""
    from medgan.workflows.lesions import Plan, bank_of, draw_lesions, drawing_of, kind_of

    settings, data = run.config.draw, run.config.data
    require_one_channel("drawing lesions", run.manifest().channels)
    model = run.model() if run.config.model_uri else None
    kind = kind_of(data.intensity if model is None else model.preprocessing.intensity)
    bank = None
    if settings.examples:
        source = {"source": settings.examples, "subjects": (), "session": "", "splits": "train"}
        with about("draw.examples"):
            patients, _ = read_manifest(data.model_copy(update=source), run.out / CONVERTED)
        run.refuse(patients.refusals)
        bank = bank_of(patients.cases, settings, kind)
    plan = Plan(drawing_of(settings, bank), settings, kind, model)
    values = draw_lesions(run.manifest(), run.out, plan, facts(), run.refuse)
    log.info("%d scans with lesions: %s", values["drawn"], run.out)
    return StepResult(values, written("lesions", run.out))


def interpolate_step(run: Run) -> StepResult:
    """Writes scans on the way between two, and a picture of them."""
    from medgan.workflows.editing import write_interpolation

    _read_text(run)
    settings, generating = run.config.latent, run.config.generate
    (name_a, a), (name_b, b) = (_end(run, text) for text in settings.ends)
    folder = write_interpolation(
        run.model(), run.out, (a, b), (name_a, name_b), generating.count, facts(),
    )  # fmt: skip
    log.info("%d frames: %s", generating.count, folder / "strip.png")
    values = {"frames": generating.count, "folder": str(folder)}
    return StepResult(values, written("interpolate", folder))


def directions_step(run: Run) -> StepResult:
    """Writes a picture of directions: where the generator changes most, and of covariates."""
    from medgan.workflows.directions import write_directions
    from medgan.workflows.followed import follow

    asked, names, model = run.config.generate, run.config.latent.covariates, run.model()
    followed = follow(model, names, _manifest_of_training(run)) if names else ()
    rows = write_directions(model, run.out, asked.count, asked.seed, facts(), followed)
    log.info("%d directions: %s", len(rows), run.out / "directions.png")
    said = [f"{one.name:9} {one.words}" for one in followed]
    along = next((f"{PREFIX}{one.name}" for one in followed if one.found), "direction:1")
    command = f"medgan series MODEL SCAN --along {along} -o OUT"
    lines = (*written("directions", run.out), *said)
    return StepResult({"directions": rows, "folder": str(run.out)}, lines, commands=(command,))


def _direction_of_covariate(run: Run) -> "np.ndarray | None":
    """The direction that `covariate:age` of latent.along names; None for anything else.

    Raises:
        ConfigError: E_CONDITION where there is none, E_NO_DATA without training scans.
    """
    from medgan.workflows.followed import follow

    prefix, separator, name = run.config.latent.along.partition(":")
    if f"{prefix}{separator}" != PREFIX:
        return None
    (found,) = follow(run.model(), [name], _beside_model(run))
    if not found.found:
        raise ConfigError("E_CONDITION", name, found.words, "go along another covariate")
    log.info("%s: %s", name, found.words)
    if name in [condition.name for condition in run.model().preprocessing.conditions]:
        run.set("latent", known={**run.config.latent.known, name: UNKNOWN})
    return found.vector


def seed_and_number(text: str) -> tuple[int, int] | None:
    """Of `seed:3/5` the 3 and the 5, of `seed:3` the 3 and 0; None for anything else."""
    drawn = re.fullmatch(r"seed:(\d+)(?:/(\d+))?", text)
    return (int(drawn[1]), int(drawn[2] or 0)) if drawn else None


def seeds_and_numbers(text: str) -> list[tuple[int, int]]:
    """Of `seed:3/5-7` the numbers 5, 6 and 7 of seed 3, of `seed:3` 0; none of anything else."""
    several = re.fullmatch(r"(seed:\d+)/(\d+)-(\d+)", text)
    numbers = range(int(several[2]), int(several[3]) + 1) if several else ()
    named = [f"{several[1]}/{number}" for number in numbers] if several else [text]
    return [found for name in named if (found := seed_and_number(name))]


def series_step(run: Run) -> StepResult:
    """Writes each scan, or a synthetic subject, along a condition: 4D files, strips, films."""
    from medgan.workflows.series import SyntheticSubject, way_of, write_series

    direction, model = _direction_of_covariate(run), run.model()
    latent, generate = run.config.latent, run.config.generate
    way = way_of(model, latent.along, latent.start, latent.stop, generate.count, direction)
    subjects = [
        SyntheticSubject(
            f"seed-{seed}-{number}", model.draw(seed, number, latent.known, generate.truncation)
        )
        for seed, number in seeds_and_numbers(run.config.data.source)
    ]
    if not subjects:
        index_step(run)
        subjects = run.manifest().split("test")
    with counting("making series") as tick:
        rows, refusals = write_series(
            model, subjects, run.out, way, latent.known, latent.steps, facts(), tick,
            run.scans.read,
        )  # fmt: skip
    run.refuse(refusals)
    log.info("%d series along %s: %s", len(rows), way.text, run.out / "films")
    return StepResult({"series": len(rows), "folder": str(run.out)}, written("series", run.out))


def _end(run: Run, text: str) -> "tuple[str, Latent]":
    """An end of an interpolation and the name under which it may be published.

    Raises:
        ConfigError: E_USAGE.
        DataError: E_NO_SCANS, or why the scan is refused.
    """
    drawn = seed_and_number(text)
    if drawn:
        settings = run.config.generate
        latent = run.model().draw(*drawn, settings.conditions, settings.truncation)
        return f"seed {drawn[0]} number {drawn[1]}", latent
    manifest, _ = index(Path(text), Pseudonyms.of_site(), converted=run.out / CONVERTED,
                        keep=run.scans.keep)  # fmt: skip
    for refusal in manifest.refusals:
        raise DataError(refusal.code, refusal.case, refusal.what, refusal.remedy)
    if len(manifest.cases) != 1:
        raise ConfigError("E_USAGE", "latent.ends", "not one scan", "name a NIfTI file or seed:3")
    case = manifest.cases[0]
    model = run.model()
    scan = model.prepare(run.scans.read(case, labels=False), case.case)
    return case.case, model.invert(scan, run.config.latent.steps).latent
