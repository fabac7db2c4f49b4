"""The utility study: networks trained with and without synthetic scans, tested on real scans."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medgan.core.config import Config
from medgan.core.errors import ConfigError, DataError, EnvironmentFailure
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json
from medgan.core.progress import counting
from medgan.core.tables import markdown_table
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import with_preparable
from medgan.data.reading import Refuse, log_refusals
from medgan.data.template import aligned_plan
from medgan.evaluation.interval import paired_difference
from medgan.reporting.utility import write_utility_page
from medgan.studies.utility.arms import arms_of
from medgan.studies.utility.classification import Classification
from medgan.studies.utility.command import check_command, run_command
from medgan.studies.utility.contrast import Contrast
from medgan.studies.utility.lesion_segmentation import LesionSegmentation
from medgan.studies.utility.segmentation import Segmentation
from medgan.studies.utility.subset import Subset
from medgan.studies.utility.task import Arm, Examples, Metric, Task

log = logging.getLogger(__name__)
REPORT, PAGE = "utility.json", "utility.html"
FEWEST_TESTED = 4
TASKS: dict[str, type[Segmentation] | type[Classification]] = {
    "segmentation": Segmentation,
    "classification": Classification,
    "lesions": LesionSegmentation,
    "contrast": Contrast,
}
BASELINES = {
    "segmentation": "classical", "classification": "oversampling", "lesions": "classical",
    "contrast": "strong",
}  # fmt: skip
"""Arms without synthetic scans that the others are compared with, where `strong` is not named."""
Row = dict[str, Any]


def utility(
    manifest: Manifest,
    out: Path,
    config: Config,
    facts: dict[str, str],
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Trains every arm on every size and seed and writes utility.json and utility.html.

    The generator of a size and seed is trained on the same real scans as the networks and on no
    others (with `utility.unlabelled`: also on the images of the other training scans, without their
    label maps). Finished trainings are kept: the same command resumes the study.

    Args:
        manifest: with splits; all scans of training and test are used, healthy or not.
        out: receives cache, generators, cells, utility.json and utility.html.
        config: data, model and train sections for the generators, utility for the study.
        facts: versions, for the cards of the generators.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        rows, the table as Markdown, and the protocol.

    Raises:
        ConfigError, DataError: where scans do not fit the task or the sizes.
        Interrupted, TrainingDiverged, EnvironmentFailure: from the training of a generator.
    """
    settings, digest = config.utility, manifest.digest
    if settings.command:
        check_command(settings.command)
        if settings.task != "segmentation":
            raise ConfigError(
                "E_VALUE", "utility.command", "is for segmentations",
                "leave it empty, or set utility.task=segmentation",
            )  # fmt: skip
    arms = arms_of(settings)
    named = {arm.name for arm in arms}
    baseline = "strong" if "strong" in named else BASELINES[settings.task]
    baseline = "real" if settings.command else baseline
    if baseline not in named:
        raise ConfigError(
            "E_VALUE", "utility.arms", f"{baseline} is missing: there is nothing to be better than",
            f"name {baseline} too",
        )  # fmt: skip
    whole = config.data.model_copy(update={"patches": False})  # the networks see whole scans
    preprocessing = aligned_plan(whole, manifest.split("train"), out / "cache")
    manifest = with_preparable(manifest, ("train", *settings.tested), preprocessing, out, refuse)
    task: Task = TASKS[settings.task](manifest.split("train"), preprocessing, settings)
    tested = _tested(manifest, settings.tested)
    test = task.real(tested, out)
    if settings.command:
        tested = [case for case in tested if case.label]
    pairs = [(size, seed) for size in settings.sizes for seed in range(settings.seeds)]
    shared = (task, manifest, preprocessing, out, config, facts)
    subsets = [Subset(*pair, *shared) for pair in pairs]  # too few scans are refused first
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    metrics: Mapping[str, Metric] = {}
    first: Cell | None = None
    with counting("trainings") as tick:
        for number, (size, _) in enumerate(pairs):
            subset = subsets.pop(0)  # its synthetic scans are large
            for position, arm in enumerate(arms):
                make = partial(_measured, subset, arm, test)
                if settings.command:
                    make = partial(_commanded, subset, arm, tested)
                names, cell = first = _cell(out, subset, arm, make, first)
                metrics = _columns(names) if settings.command else task.metrics
                found.setdefault((size, arm.name), []).append(cell)
                tick(number * len(arms) + position + 1, len(pairs) * len(arms))
    rows = [_row(metrics, size, arm, found, baseline) for size in settings.sizes for arm in arms]
    result = {
        "protocol": {
            **settings.model_dump(mode="json"),
            "compared_with": baseline,
            "test_scans": len(test.images),
            "generator_minutes": config.train.minutes,
            "generator_volumes": config.train.volumes,
            "data_digest": digest,
            **facts,
        },
        "rows": rows,
        "table": table(rows, baseline),
    }
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    write_utility_page(out / PAGE, result, baseline)
    return result


Cell = tuple[list[str], np.ndarray]
"""Names of metrics, where they are not the task's, and values of the test subjects, (N, K)."""


def _cell(out: Path, subset: Subset, arm: Arm, make: Callable[[], Cell], like: Cell | None) -> Cell:
    """Results of a training, in the order of an earlier one, from the disk or by training.

    Raises:
        EnvironmentFailure: E_COMMAND when the earlier one had other metrics.
    """
    path, key = out / "cells" / f"{_named(subset, arm)}.json", subset.key(arm)
    if path.is_file():
        kept = read_json(path)
        if kept["key"] == key:
            return _ordered((kept["names"], np.array(kept["values"], dtype=float)), like, arm)
    log.info("%s real scans, seed %d: %s", len(subset.cases), subset.seed, arm.name)
    names, values = _ordered(make(), like, arm)
    write_atomic(path, json.dumps({"key": key, "names": names, "values": values.tolist()}))
    return names, values


def _ordered(cell: Cell, like: Cell | None, arm: Arm) -> Cell:
    """Columns in the order of another training: a command may write them in any."""
    names, values = cell
    if like is None:
        return cell
    if sorted(names) != sorted(like[0]) or values.shape != like[1].shape:
        found, wanted = (f"{len(f)} of {', '.join(n)}" for n, f in (cell, like))
        raise EnvironmentFailure(
            "E_COMMAND", "utility.command", f"left {found} for {arm.name}, and {wanted} before",
            "let it write the same metrics for every arm; remove cells if it has changed",
        )  # fmt: skip
    return like[0], values[:, [names.index(name) for name in like[0]]] if names else values


def _named(subset: Subset, arm: Arm) -> str:
    return f"{subset.name}-{arm.name.replace(' ', '-')}"


def _measured(subset: Subset, arm: Arm, test: Examples) -> Cell:
    """Trains and tests a network of the task."""
    return [], subset.task.measure(subset.train(arm), test.to(subset.device))


def _commanded(subset: Subset, arm: Arm, tested: Sequence[Case]) -> Cell:
    """Lets the user's command train on a data set of its own, which is removed afterwards."""
    folder = subset.out / "commands" / _named(subset, arm)
    shutil.rmtree(folder / "data", ignore_errors=True)
    subset.folder(arm, tested, folder / "data")
    command = subset.config.utility.command
    found = run_command(command, folder / "data", folder, subset.seed, len(tested))
    shutil.rmtree(folder / "data")
    return list(found), np.array(list(found.values())).T


def _columns(names: Sequence[str]) -> dict[str, Metric]:
    """Metrics of a command: means over test scans, higher being better."""

    def mean(column: int) -> Metric:
        return Metric(lambda rows: float(rows[:, column].mean()))

    return {name: mean(column) for column, name in enumerate(names)}


def _tested(manifest: Manifest, splits: Sequence[str]) -> list[Case]:
    """All scans of these splits, healthy or not.

    Raises:
        DataError: E_SPLIT.
    """
    cases = [case for split in splits for case in manifest.split(split)]
    if len(cases) < FEWEST_TESTED:
        raise DataError(
            "E_SPLIT", f"{len(cases)} scans to test on", f"{FEWEST_TESTED} are needed",
            "add scans, or set data.fractions or utility.tested",
        )  # fmt: skip
    return cases


def _row(
    metrics: Mapping[str, Metric],
    size: int,
    arm: Arm,
    found: Mapping[tuple[int, str], list[np.ndarray]],
    baseline: str,
) -> Row:
    """All metrics of an arm, and their differences from the baseline."""
    own, other = (np.stack(found[size, name]) for name in (arm.name, baseline))
    synthetic = arm.ratio > 0 or arm.appearance
    row: Row = {"size": size, "arm": arm.name, "synthetic": synthetic, "metrics": {}}
    for name, metric in metrics.items():
        values = [metric.of(part) for part in own]
        row["metrics"][name] = {
            "mean": round(float(np.mean(values)), 4),
            "seeds": [round(value, 4) for value in values],
            "better": "higher" if metric.better else "lower",
        }
        if arm.name != baseline:
            difference = paired_difference(other, own, metric.of)
            row["metrics"][name]["difference"] = {
                **difference.interval.rounded(), "p_value": round(difference.p_value, 4)
            }  # fmt: skip
            row["metrics"][name]["differences"] = [
                round(a - metric.of(b), 4) for a, b in zip(values, other, strict=True)
            ]
    return row


def table(rows: Sequence[Row], baseline: str) -> str:
    """The rows as a Markdown table: means, and differences from the baseline."""
    names = list(rows[0]["metrics"])
    headline = names[0]
    head = ["real scans", "trained on", *names, f"{headline}: more than {baseline} (95%)", "p"]
    lines = []
    for row in rows:
        metrics = row["metrics"]
        cells = [str(row["size"]), row["arm"], *(f"{metrics[n]['mean']:.3f}" for n in names)]
        gap = metrics[headline].get("difference")
        cells += (
            [f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
             f"{gap['p_value']:.3f}"] if gap else ["", ""]
        )  # fmt: skip
        lines.append(cells)
    return markdown_table(head, lines)
