"""Translations of scans on disk, with a picture of each."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medgan.core.config import WINDOWS, Preprocessing, TranslateConfig
from medgan.core.version import __version__
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.checks import CheckedScan
from medgan.data.dicom.synthetic import modality_of, write_synthetic_series
from medgan.data.manifest import Case, Refusal
from medgan.data.reading import read_case
from medgan.model.digest import digest_of
from medgan.model.mask_to_image import TASK
from medgan.model.model import Model
from medgan.model.outputs import Translation
from medgan.reporting.side_by_side import Column, side_by_side
from medgan.reporting.slices import ColourScale, grey_scale
from medgan.workflows.executor.records import CaseRecords, Task, Values, hash_of
from medgan.workflows.executor.shard import write_whole
from medgan.workflows.executor.work import Done, Executor, Here, do_all
from medgan.workflows.over_cases import Row, Tick, write_results

TABLE = "translations"
FOLDERS = ("images", "spread", "answers", "pictures")


def write_translations(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    settings: TranslateConfig,
    facts: dict[str, str],
    progress: Tick = lambda done, total: None,
    read: Callable[[Case, bool], CheckedScan] = read_case,
    executor: Executor | None = None,
    shard: bool = False,
) -> tuple[list[Row], list[Refusal]]:
    """Writes `images/`, `spread/`, `answers/`, `pictures/`, `translations.csv` and `.json`.

    With `settings.dicom` also `dicom/`, a series for each image. A scan that cannot be used is
    refused, and the others are translated. What was translated by an earlier run, with the same
    model, settings and files, is not translated again.

    Args:
        model: that makes one image of another.
        cases: from a manifest, with the channels that the model is given.
        folder: receives everything, under pseudonyms.
        settings: how many answers, and their seed.
        facts: versions, for the provenance.
        progress: receives the number of scans done and of all.
        read: gives the checked files of a case, without its label map; from the disk by default,
            and in other processes.
        executor: does the work; this process unless given.
        shard: whether these are a share of all cases, of which no tables are written.

    Returns:
        The rows of the table and the refusals.

    Raises:
        ModelError: E_TRANSLATOR when the model was not trained for it.
        EnvironmentFailure: E_DISK, E_WORKER.
    """
    conversion = model.networks.needed_translator.conversion
    of_labels = conversion.task == TASK and settings.given == "labels"
    given = {
        "task": conversion.task, "source": list(conversion.source),
        "target": list(conversion.target), "answers": settings.answers, "seed": settings.seed,
        "given": settings.given if conversion.task == TASK else "scan",
        "rough_mm": settings.rough_mm if of_labels else 0.0,
        "thickness_mm": settings.thickness_mm,
        "model_sha256": model.digest, "model": model.facts, "made_with": facts,
    }  # fmt: skip
    records = CaseRecords(folder.absolute())
    here = executor is None or isinstance(executor, Here)
    work = TranslateWork(records, settings, of_labels, read if here else read_case)
    shared = (__version__, model.digest or digest_of(model), given, settings.dicom)
    tasks = [
        Task(case.case, hash_of(*shared, case.subject, case.hashes), case) for case in cases
    ]  # fmt: skip
    write_whole(folder, "translate", given)
    done: dict[str, Done] = {}
    try:
        for one in do_all(executor or Here(model), work, tasks, progress):
            done[one.task.name] = one
    finally:
        found = [done[case.case] for case in cases if case.case in done]
        rows = [one.values["row"] for one in found if one.values is not None]
        if not shard:
            write_results(folder, TABLE, given, rows, rows)
    records.keep_only([one.task.name for one in found if one.values is not None], FOLDERS)
    return rows, [one.refusal for one in found if one.refusal is not None]


@dataclass(frozen=True)
class TranslateWork:
    """Translates a scan. The item of a task is its case.

    Attributes:
        records: of the translations, in their folder.
        settings: the translate section.
        of_labels: whether the model is given a label map.
        read: gives the checked files of a case, without its label map.
    """

    records: CaseRecords
    settings: TranslateConfig
    of_labels: bool
    read: Callable[[Case, bool], CheckedScan] = read_case

    def __call__(self, model: Model, item: Case) -> tuple[Values, list[str]]:
        """The row of the table, and the files."""
        case, settings, folder = item, self.settings, self.records.folder
        names = ("label map",) if self.of_labels else model.source
        given = self.read(case, False)
        if self.of_labels:
            found = model.image_of(
                given.volumes[0], settings.rough_mm, settings.answers, settings.seed, case.case
            )
            shown = given.volumes
        else:
            scan = model.prepare(given, case.case)
            found = model.translate(scan, settings.answers, settings.seed, settings.thickness_mm)
            shown = scan.source
        row: Row = {"case": case.case, "subject": case.subject}
        files = [f"pictures/{case.case}.png"]
        for name, image in found.images.items():
            text = f"{SYNTHETIC} {name} of {'+'.join(names)}, {model.digest[:12]}"
            file = f"{case.case}_{name}.nii.gz"
            image.save(folder / "images" / file, text)
            found.spread[name].save(folder / "spread" / file, f"spread of {text}")
            found.answer[name].save(folder / "answers" / file, f"one answer, {text}")
            files += [f"{kind}/{file}" for kind in ("images", "spread", "answers")]
            if settings.dicom:
                modality = modality_of(model.preprocessing.intensity_of(name))
                series = folder / "dicom" / f"{case.case}_{name}"
                shutil.rmtree(series, ignore_errors=True)  # of a run that was killed
                write_synthetic_series(image.canonical(), series, modality, text)
            row[name] = f"images/{file}"
            row[f"{name}_spread"] = round(_mean_inside(found, name), 5)
        _write_picture(folder / files[0], shown, names, found, model.preprocessing)
        return {"row": row}, files


def _on_grid(volume: Volume, grid: Volume) -> Volume:
    """The nearest voxels on another grid; the volume itself where it lies on that."""
    if volume.shape == grid.shape:
        return volume
    to_volume = np.linalg.inv(volume.affine) @ grid.affine
    matrix, offset = to_volume[:3, :3], to_volume[:3, 3].tolist()
    data = ndimage.affine_transform(
        volume.data, matrix, offset, grid.shape, order=0, mode="nearest"
    )
    return Volume(data, grid.affine)


def _mean_inside(found: Translation, name: str) -> float:
    """Mean spread where the image is not the lowest it can be, as air is."""
    image = found.images[name].data
    inside = image > image.min()
    return float(found.spread[name].data[inside].mean()) if inside.any() else 0.0


def shown_range(preprocessing: Preprocessing, name: str, data: np.ndarray) -> ColourScale:
    """Lung or soft tissue of CT, as the model has learned it; the range of anything else."""
    if name in preprocessing.channels and preprocessing.intensity_of(name) == "ct":
        lung = WINDOWS["lung"] in preprocessing.window
        return ColourScale(*WINDOWS["lung" if lung else "soft tissue"])
    return grey_scale(data)


def _write_picture(
    path: Path,
    sources: Sequence[Volume],
    names: Sequence[str],
    found: Translation,
    preprocessing: Preprocessing,
) -> None:
    grid = next(iter(found.images.values())).canonical()
    given = [_on_grid(volume.canonical(), grid) for volume in sources]
    columns = [
        Column(f"{name}\ngiven", volume.data, shown_range(preprocessing, name, volume.data))
        for name, volume in zip(names, given, strict=True)
    ]
    for name, image in found.images.items():
        drawn, spread = image.canonical().data, found.spread[name].canonical().data
        answer, grey = found.answer[name].canonical().data, shown_range(preprocessing, name, drawn)
        most = float(np.percentile(spread, 99.5)) or 1.0
        heat = ColourScale(0.0, most, "inferno")
        columns += [
            Column(f"{name}\nmade", drawn, grey),
            Column(f"{name}\nwith noise", answer, grey),
            Column(f"spread of {found.answers}\nup to {most:.3g}", spread, heat),
        ]
    side_by_side(path, columns, given[0].spacing, "SYNTHETIC images made of one scan")
