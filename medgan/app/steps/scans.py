"""From scans on disk to a manifest."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medgan.app.result import StepResult, written
from medgan.app.run import MANIFEST, Run
from medgan.core.config import DataConfig
from medgan.core.errors import ConfigError, DataError, about
from medgan.core.progress import counting
from medgan.core.tables import text_table
from medgan.data.checks import CheckedScan
from medgan.data.dicom.conversion import CONVERTED
from medgan.data.index import Choose, Keep, index
from medgan.data.layouts.manifest import matches as is_manifest
from medgan.data.manifest import IMAGE, SPLITS, Manifest
from medgan.data.pseudonyms import PRIVATE_KEY, Pseudonyms, write_private_key
from medgan.data.sequences import summary
from medgan.data.splits import (
    read_splits,
    require_whole_subjects,
    with_drawn_splits,
    with_given_splits,
    with_health,
    with_wanted,
)

log = logging.getLogger(__name__)
_LEARNING = {"train", "bare", "scorers", "calibrate"}
"""Steps that learn from scans or calibrate on them."""
PHANTOM_SHAPE, PHANTOM_SPACING = (48, 56, 48), 4.0
"""Voxels along R, A and S, and their size in mm."""


def phantoms_step(run: Run) -> StepResult:
    """Writes a data set of phantoms and points the data section at it."""
    from medgan.data.phantoms.data_set import make_data_set

    if run.config.data.source:
        raise ConfigError(
            "E_USAGE", "data.source", "this pipeline makes its own scans",
            "train on yours with `medgan train train --data SCANS`, or `make demo DATA=SCANS`",
        )  # fmt: skip
    healthy, lesioned = run.config.phantoms.subjects
    source = make_data_set(
        run.out / "phantoms",
        healthy,
        lesioned,
        PHANTOM_SHAPE,
        PHANTOM_SPACING,
        run.config.train.seed,
    )
    run.set("data", source=str(source), healthy={"diagnosis": ["healthy"]})
    log.info("phantoms: %d healthy, %d with a lesion", healthy, lesioned)
    return StepResult({"healthy": healthy, "lesioned": lesioned})


def index_step(run: Run) -> StepResult:
    """Checks every scan, reads or makes the splits, writes the manifest and the refusals."""

    def keep(case: str, scan: CheckedScan) -> None:
        if not run.works_elsewhere:
            run.scans.keep(case, scan)

    settings = with_channels(run)
    part = run.part if run.shard is not None and "augment" not in run.steps else None
    manifest, key = read_manifest(settings, run.out / CONVERTED, keep, run.expect, part)
    if run.config.train.task == "harmonisation" and "train" in run.steps:
        manifest, key = _with_wanted(run, manifest, key)
    if _LEARNING & set(run.steps) and not run.config.data.synthetic:
        manifest = manifest.without_synthetic()
    write_private_key(run.out / PRIVATE_KEY, key)
    manifest.save(run.out / MANIFEST)
    run.refuse(manifest.refusals)
    series = [asdict(row) for row in manifest.series]
    if not manifest.cases and part is None:
        for line in series_lines(series):
            log.warning("%s", line)
        raise DataError(
            "E_NO_SCANS", "the data set",
            f"none of {len({case for case, *_ in key})} scans is usable",
            f"see refused.csv and {PRIVATE_KEY} in {run.out}",
        )  # fmt: skip
    counts = {split: len(manifest.split(split)) for split in SPLITS}
    values: dict[str, Any] = {
        "cases": len(manifest.cases), **counts, "refused": len(manifest.refusals),
        "manifest": str(run.out / MANIFEST),
    }  # fmt: skip
    if series:
        values["series"] = series
    kinds = {row.modality for row in manifest.series if row.status == "used"}
    if len(kinds) > 1:
        log.warning("MR and CT are used together: choose one with --set data.suffix=CT")
    log.info("scans: %s; %d refused", ", ".join(f"{n} {s}" for s, n in counts.items()),
             len(manifest.refusals))  # fmt: skip
    over_time = summary(manifest.cases)
    if over_time is not None:
        values["sequences"] = asdict(over_time)
    said = () if over_time is None else (f"{'sequences':9} {over_time.text}",)
    lines = (*series_lines(series), *said, *written("index", run.out / MANIFEST))
    return StepResult(values, lines)


def _with_wanted(
    run: Run, manifest: Manifest, key: list[tuple[str, str, str]]
) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """Manifest and key with the scans of the site whose style is wanted."""
    source = run.config.translate.target_data
    if not source:
        raise ConfigError(
            "E_NO_DATA", "translate.target_data", "no scans named",
            "name scans of other subjects in the style that is wanted",
        )  # fmt: skip
    settings = with_channels(run).model_copy(update={"source": source})
    with about("translate.target_data"):
        wanted, more = read_manifest(settings, run.out / CONVERTED, run.scans.keep)
    return with_wanted(manifest, wanted), [*key, *more]


def with_channels(run: Run) -> DataConfig:
    """The data section; unless it names channels, with those that the model is given."""
    settings = run.config.data
    if settings.channels or not run.config.model_uri:
        return settings
    model = run.model()
    channels = model.preprocessing.channels
    wanted = model.source or (channels if len(channels) > 1 else ())
    if wanted in ((), (IMAGE,)):  # one image, by whatever name
        return settings
    return settings.model_copy(update={"channels": wanted})


def read_manifest(
    settings: DataConfig,
    converted: Path,
    keep: Keep = lambda case, scan: None,
    expect: Callable[[int], None] = lambda count: None,
    part: Choose | None = None,
) -> tuple[Manifest, list[tuple[str, str, str]]]:
    """The manifest with splits, and the key from pseudonyms to files.

    Args:
        settings: the data section.
        converted: receives what DICOM series become.
        keep: receives what was read of each scan.
        expect: receives how many scans there are, before the first of them is read.
        part: which of the listed scans are read, where others read the rest.

    Raises:
        ConfigError: E_NO_DATA; E_USAGE where scans are divided whose splits are drawn among all.
    """
    if not settings.source:
        raise ConfigError("E_NO_DATA", "data.source", "no scans named", "give DATA or --data")
    pseudonyms = Pseudonyms.of_site()
    source = Path(settings.source)
    with counting("checking scans") as tick:

        def progress(done: int, total: int) -> None:
            if not done:
                expect(total)
            tick(done, total)

        manifest, key = index(
            source, pseudonyms, settings.suffix, progress, converted,
            subjects=settings.subjects, session=settings.session,
            channels=settings.channels, keep=keep, part=part,
        )  # fmt: skip
    if part is not None and not settings.splits and not is_manifest(source):
        raise ConfigError(
            "E_USAGE", "executor.shard", "splits are drawn among all scans, not among a share",
            "name a manifest.json that has splits, or set data.splits=test",
        )  # fmt: skip
    if settings.healthy:
        manifest = with_health(manifest, settings.healthy)
    if settings.splits in SPLITS:
        manifest = manifest.with_all_in(settings.splits)
    elif settings.splits:
        splits = read_splits(Path(settings.splits), source)
        manifest = with_given_splits(manifest, splits, pseudonyms, settings.seed)
    elif is_manifest(source):
        manifest = manifest.with_unhealthy_tested()
        require_whole_subjects(manifest)
    else:
        manifest = with_drawn_splits(manifest, settings.fractions, settings.seed)
    return manifest, key


def series_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of DICOM series, as text; nothing without any."""
    if not rows:
        return []
    columns = ("series", "subject", "kind", "matrix", "spacing in mm", "status", "reason")
    table = []
    for row in rows:
        reason = " ".join(filter(None, (row["code"], row["what"])))
        reason += f"; {row['remedy']}" if row["remedy"] else ""
        matrix = " x ".join(str(n) for n in row["matrix"])
        spacing = " x ".join(f"{mm:.4g}" for mm in row["spacing"])
        names = (row["case"], row["subject"], row["modality"])
        table.append((*names, matrix, spacing, row["status"], reason))
    return text_table(columns, table).splitlines()
