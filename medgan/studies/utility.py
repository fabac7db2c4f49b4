"""Do synthetic scans help? Networks learn with and without them and are tested on real scans."""

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
from medgan.core.progress import counting
from medgan.core.tables import markdown_table
from medgan.data.manifest import Case, Manifest
from medgan.data.plan import plan
from medgan.evaluation.interval import paired_difference
from medgan.reporting.utility import write_utility_page
from medgan.studies.command import check_command, run_command
from medgan.studies.draw import Draw, arms_of
from medgan.studies.tasks import FEWEST_TESTED, TASKS, Arm, Examples, Figure, Task

log = logging.getLogger(__name__)
REPORT, PAGE = "utility.json", "utility.html"
BASELINES = {"segmentation": "classical", "classification": "oversampling"}
"""What a hospital would do without synthetic scans."""
Row = dict[str, Any]


def utility(manifest: Manifest, out: Path, config: Config, facts: dict[str, str]) -> dict[str, Any]:
    """Trains every arm on every size and seed and writes utility.json and utility.html.

    The generator of a size and seed learns from the same real scans as the networks it helps,
    and from nothing else (with `utility.unlabelled`: also from the images, without the label
    maps, of the other training scans). What is done is kept:
    the same command goes on.

    Args:
        manifest: with splits; healthy or not, all scans of training and test are used.
        out: receives cache, generators, cells, utility.json and utility.html.
        config: data, model and train sections for the generators, utility for the study.
        facts: versions, for the cards of the generators.

    Returns:
        rows, the table as Markdown, and the protocol.

    Raises:
        ConfigError, DataError: what does not fit the task or the sizes.
        Interrupted, TrainingDiverged, EnvironmentFailure: from the training of a generator.
    """
    settings = config.utility
    cases = manifest.split("train")
    preprocessing = plan(config.data, cases)
    task: Task = TASKS[settings.task](cases, preprocessing, settings)
    if settings.command:
        check_command(settings.command)
        if settings.task != "segmentation":
            raise ConfigError(
                "E_VALUE", "utility.command", "is for segmentations",
                "leave it empty, or set utility.task=segmentation",
            )  # fmt: skip
    arms = arms_of(settings)
    baseline = "real" if settings.command else BASELINES[settings.task]
    if baseline not in {arm.name for arm in arms}:
        raise ConfigError(
            "E_VALUE", "utility.arms", f"{baseline} is missing: there is nothing to be better than",
            f"name {baseline} too",
        )  # fmt: skip
    tested = _tested(manifest, settings.tested)
    test = task.real(tested, out)
    if settings.command:
        tested = [case for case in tested if case.label]
    plots = [(size, seed) for size in settings.sizes for seed in range(settings.seeds)]
    shared = (task, manifest, preprocessing, out, config, facts)
    draws = [Draw(*plot, *shared) for plot in plots]  # too few scans are found out first
    found: dict[tuple[int, str], list[np.ndarray]] = {}
    figures: Mapping[str, Figure] = {}
    first: Cell | None = None
    with counting("trainings") as tick:
        for number, (size, _) in enumerate(plots):
            draw = draws.pop(0)  # what a draw has generated is large
            for place, arm in enumerate(arms):
                make = partial(_judged, draw, arm, test)
                if settings.command:
                    make = partial(_commanded, draw, arm, tested)
                names, cell = first = _cell(out, draw, arm, make, first)
                figures = _columns(names) if settings.command else task.figures
                found.setdefault((size, arm.name), []).append(cell)
                tick(number * len(arms) + place + 1, len(plots) * len(arms))
    rows = [_row(figures, size, arm, found, baseline) for size in settings.sizes for arm in arms]
    result = {
        "protocol": {
            **settings.model_dump(mode="json"),
            "compared_with": baseline,
            "test_scans": len(test.images),
            "generator_minutes": config.train.minutes,
            "generator_volumes": config.train.volumes,
            "data_digest": manifest.digest,
            **facts,
        },
        "rows": rows,
        "table": table(rows, baseline),
    }
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    write_utility_page(out / PAGE, result, baseline)
    return result


Cell = tuple[list[str], np.ndarray]
"""Names of figures, where they are not the task's, and figures of the test subjects, (N, K)."""


def _cell(out: Path, draw: Draw, arm: Arm, make: Callable[[], Cell], like: Cell | None) -> Cell:
    """What a training gave, in the order of an earlier one: from the disk, or by training.

    Raises:
        EnvironmentFailure: E_COMMAND when the earlier one had other figures.
    """
    path, key = out / "cells" / f"{_named(draw, arm)}.json", draw.key(arm)
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return _ordered((kept["names"], np.array(kept["figures"], dtype=float)), like, arm)
    log.info("%s real scans, draw %d: %s", len(draw.cases), draw.seed, arm.name)
    names, figures = _ordered(make(), like, arm)
    write_atomic(path, json.dumps({"key": key, "names": names, "figures": figures.tolist()}))
    return names, figures


def _ordered(cell: Cell, like: Cell | None, arm: Arm) -> Cell:
    """The columns in the order of another training's; a command may leave them in any."""
    names, figures = cell
    if like is None:
        return cell
    if sorted(names) != sorted(like[0]) or figures.shape != like[1].shape:
        told, wanted = (f"{len(f)} of {', '.join(n)}" for n, f in (cell, like))
        raise EnvironmentFailure(
            "E_COMMAND", "utility.command", f"left {told} for {arm.name}, and {wanted} before",
            "let it leave the same figures for every arm; remove cells if it has changed",
        )  # fmt: skip
    return like[0], figures[:, [names.index(name) for name in like[0]]] if names else figures


def _named(draw: Draw, arm: Arm) -> str:
    return f"{draw.name}-{arm.name.replace(' ', '-')}"


def _judged(draw: Draw, arm: Arm, test: Examples) -> Cell:
    """Trains one of our networks."""
    return [], draw.task.judge(draw.train(arm), test.to(draw.device))


def _commanded(draw: Draw, arm: Arm, tested: Sequence[Case]) -> Cell:
    """Lets the user's command train on a data set of its own, which is removed afterwards."""
    folder = draw.out / "commands" / _named(draw, arm)
    shutil.rmtree(folder / "data", ignore_errors=True)
    draw.folder(arm, tested, folder / "data")
    command = draw.config.utility.command
    found = run_command(command, folder / "data", folder, draw.seed, len(tested))
    shutil.rmtree(folder / "data")
    return list(found), np.array(list(found.values())).T


def _columns(names: Sequence[str]) -> dict[str, Figure]:
    """Figures of a command: means over test scans, more of them being better."""

    def mean(column: int) -> Figure:
        return Figure(lambda rows: float(rows[:, column].mean()))

    return {name: mean(column) for column, name in enumerate(names)}


def _tested(manifest: Manifest, splits: Sequence[str]) -> list[Case]:
    """Everyone in these splits, ill or not.

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
    figures: Mapping[str, Figure],
    size: int,
    arm: Arm,
    found: Mapping[tuple[int, str], list[np.ndarray]],
    baseline: str,
) -> Row:
    """Every figure of an arm, and how far it is from the baseline."""
    own, other = (np.stack(found[size, name]) for name in (arm.name, baseline))
    row: Row = {"size": size, "arm": arm.name, "synthetic": arm.ratio > 0, "figures": {}}
    for name, figure in figures.items():
        values = [figure.of(part) for part in own]
        row["figures"][name] = {
            "mean": round(float(np.mean(values)), 4),
            "seeds": [round(value, 4) for value in values],
            "better": "higher" if figure.better else "lower",
        }
        if arm.name != baseline:
            difference = paired_difference(other, own, figure.of)
            row["figures"][name]["difference"] = {
                **difference.interval.rounded(), "p_value": round(difference.p_value, 4)
            }  # fmt: skip
            row["figures"][name]["differences"] = [
                round(a - figure.of(b), 4) for a, b in zip(values, other, strict=True)
            ]
    return row


def table(rows: Sequence[Row], baseline: str) -> str:
    """The rows as a Markdown table: means, and differences from the baseline."""
    names = list(rows[0]["figures"])
    headline = names[0]
    head = ["real scans", "trained on", *names, f"{headline}: more than {baseline} (95%)", "p"]
    lines = []
    for row in rows:
        figures = row["figures"]
        cells = [str(row["size"]), row["arm"], *(f"{figures[n]['mean']:.3f}" for n in names)]
        gap = figures[headline].get("difference")
        cells += (
            [f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})",
             f"{gap['p_value']:.3f}"] if gap else ["", ""]
        )  # fmt: skip
        lines.append(cells)
    return markdown_table(head, lines)
