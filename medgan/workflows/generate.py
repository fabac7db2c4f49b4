"""Generated data sets: synthetic scans as a Decathlon folder for segmentation frameworks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from itertools import groupby
from pathlib import Path
from typing import Any

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.version import __version__
from medgan.data.conditions import Value, check
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.model.digest import digest_of
from medgan.model.generation import warn_of_unusual
from medgan.model.model import Model
from medgan.reporting.generated import (
    MOST_TILES,
    Compared,
    Tile,
    generated_page,
)
from medgan.workflows.executor.records import CaseRecords, Task, Values, hash_of
from medgan.workflows.executor.shard import Shard, write_whole
from medgan.workflows.executor.work import Executor, Here, do_all
from medgan.workflows.explained import Explained, Explainer
from medgan.workflows.synthetic_scan import MARK, GenerateWork, Wanted, name_of

PAGE = "generated.html"
FOLDERS = ("imagesTr", "labelsTr")


def write_synthetic(
    model: Model,
    folder: Path,
    count: int,
    seed: int,
    facts: dict[str, str],
    conditions: Sequence[Mapping[str, Value]] = (),
    truncation: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    dicom: bool = False,
    text: str = "",
    first: int = 0,
    explain: Path | None = None,
    executor: Executor | None = None,
    shard: Shard | None = None,
) -> Path:
    """Writes images, labels, two JSON files, a page and, with conditions, a table.

    `covariates.csv` lists files and covariates and can be read as a data set. What an earlier run
    has written, with the same model and settings, is not generated again.

    Args:
        model: the generator.
        folder: receives `imagesTr/`, `labelsTr/`, `dataset.json`, `provenance.json`, the page and
            the table.
        count: number of scans.
        seed: of the latents; scan i does not depend on the count.
        facts: versions, for the provenance.
        conditions: requested values of each scan; empty requests none.
        truncation: of the latents; 0 is off.
        progress: receives the number of scans done and of all.
        dicom: whether each image is also written as a DICOM series into `dicom/`.
        text: the sentence that the conditions were read from, for the provenance.
        first: number of the first scan.
        explain: manifest of the training, whether it is there or not, if the scans on the page are
            to be explained: nearest training scans, and what each condition changes.
        executor: does the work; this process unless given.
        shard: share of the scans to write, without JSON files, page and table.

    Returns:
        The folder.

    Raises:
        ConfigError: E_CONDITION for conditions that the model does not have.
        DataError: E_CRASH for a scan that ends its process, whatever is tried.
    """
    conditions = conditions or [{}] * count
    groups = [(wanted, len(list(alike))) for wanted, alike in groupby(conditions)]
    remarks = [check(model.preprocessing.conditions, wanted) for wanted, _ in groups]
    for wanted, _ in groups:
        warn_of_unusual(model, wanted)
    records = CaseRecords(folder.absolute())
    known = (__version__, model.digest or digest_of(model), seed, truncation, dicom)
    tasks = [
        Task(
            name_of(seed, number), hash_of(*known, number, wanted, place < MOST_TILES),
            Wanted(number, wanted, place < MOST_TILES),
        )
        for place, (number, wanted) in enumerate(enumerate(conditions, start=first))
    ]  # fmt: skip
    provenance = {
        "synthetic": True,
        "seed": seed,
        "count": count,
        "first": first,
        "smallest_component": SMALLEST_COMPONENT,
        "truncation": truncation,
        **({"text": text} if text else {}),
        "requests": [
            {"count": number, "conditions": dict(wanted), "remarks": remark}
            for (wanted, number), remark in zip(groups, remarks, strict=True)
        ],
        "model": model.facts,
        "generated_with": facts,
    }
    whole = {
        "channels": _channel_names(model.preprocessing),
        "labels": list(model.preprocessing.labels),
        "conditions": bool(model.preprocessing.conditions),
        "provenance": provenance,
    }
    write_whole(folder, "generate", whole, [task.name for task in tasks])
    mine = tasks if shard is None else shard.of_all(tasks)
    work = GenerateWork(records, seed, truncation, dicom)
    done: dict[str, Values] = {}
    for one in do_all(executor or Here(model), work, mine, progress):
        if one.refusal is not None:
            raise DataError(*astuple(one.refusal))
        done[one.task.name] = one.values or {}
    if shard is not None:
        return folder
    records.keep_only(done, FOLDERS)
    explained = None
    if explain is not None:
        explainer = Explainer(model, folder, explain, truncation)
        for task in tasks[:MOST_TILES]:
            explainer.add(work.scan(model, task.item))
        explained = explainer.finish(seed)
    finish_generated(folder, whole, [done[task.name] for task in tasks], explained)
    return folder


def finish_generated(
    folder: Path,
    whole: Mapping[str, Any],
    generated: Sequence[Values],
    explained: tuple[list[Explained], Compared] | None = None,
) -> None:
    """Writes what is of all scans together.

    Args:
        folder: receives it.
        whole: what they have in common.
        generated: values of `GenerateWork`, in order.
        explained: what the page says of where they come from.
    """
    provenance, labels = whole["provenance"], whole["labels"]
    dataset: dict[str, Any] = {
        "name": "Synthetic scans",
        "description": MARK,
        "tensorImageSize": "3D",
        "modality": whole["channels"],
        "labels": {"0": "background", **{str(value): f"label {value}" for value in labels}},
        "numTraining": len(generated),
        "numTest": 0,
        "training": [one["entry"] for one in generated],
        "test": [],
    }
    write_atomic(folder / "dataset.json", json.dumps(dataset, indent=1))
    write_atomic(folder / "provenance.json", json.dumps(provenance, indent=1))
    every = dict.fromkeys(line for one in provenance["requests"] for line in one["remarks"])
    tiles, compared = [Tile(**one["tile"]) for one in generated[:MOST_TILES]], None
    if explained is not None:
        found, compared = explained
        pairs = zip(tiles, found, strict=True)
        tiles = [t._replace(nearest=e.nearest, changes=e.changes) for t, e in pairs]
    page = generated_page(
        tiles, len(generated), provenance["seed"], provenance.get("text", ""), list(every),
        bool(labels), compared,
    )  # fmt: skip
    write_atomic(folder / PAGE, page)
    if whole["conditions"]:
        write_atomic(folder / "covariates.csv", table_text(one["row"] for one in generated))


def _channel_names(preprocessing: Preprocessing) -> dict[str, str]:
    """Names of the channels by number; of one channel, what its intensities are."""
    if len(preprocessing.channels) > 1:
        return {str(number): name for number, name in enumerate(preprocessing.channels)}
    return {"0": "CT" if preprocessing.holds_ct else "MRI"}
