"""Translations of scans on disk, with a picture of each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from medgan.core.config import WINDOWS, Preprocessing, TranslateConfig
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.checks import CheckedScan
from medgan.data.dicom.synthetic import modality_of, write_synthetic_series
from medgan.data.manifest import Case, Refusal
from medgan.data.reading import read_case
from medgan.model.mask_to_image import TASK
from medgan.model.model import Model
from medgan.model.outputs import Translation
from medgan.reporting.side_by_side import Column, side_by_side
from medgan.reporting.slices import ColourScale, grey_scale
from medgan.workflows.over_cases import Row, Tick, over_cases


def write_translations(
    model: Model,
    cases: Sequence[Case],
    folder: Path,
    settings: TranslateConfig,
    facts: dict[str, str],
    progress: Tick = lambda done, total: None,
    read: Callable[[Case, bool], CheckedScan] = read_case,
) -> tuple[list[Row], list[Refusal]]:
    """Writes `images/`, `spread/`, `answers/`, `pictures/`, `translations.csv` and `.json`.

    With `settings.dicom` also `dicom/`, a series for each image. A scan that cannot be used is
    refused, and the others are translated.

    Args:
        model: that makes one image of another.
        cases: from a manifest, with the channels that the model is given.
        folder: receives everything, under pseudonyms.
        settings: how many answers, and their seed.
        facts: versions, for the provenance.
        progress: receives the number of scans done and of all.
        read: gives the checked files of a case, without its label map; from the disk by default.

    Returns:
        The rows of the table and the refusals.

    Raises:
        ModelError: E_TRANSLATOR when the model was not trained for it.
    """
    conversion = model.networks.needed_translator.conversion
    of_labels = conversion.task == TASK and settings.given == "labels"
    names = ("label map",) if of_labels else model.source

    def work(case: Case) -> tuple[Row, Row]:
        given = read(case, False)
        if of_labels:
            found = model.image_of(
                given.volumes[0], settings.rough_mm, settings.answers, settings.seed, case.case
            )
            shown = given.volumes
        else:
            scan = model.prepare(given, case.case)
            found = model.translate(scan, settings.answers, settings.seed, settings.thickness_mm)
            shown = scan.source
        row: Row = {"case": case.case, "subject": case.subject}
        for name, image in found.images.items():
            text = f"{SYNTHETIC} {name} of {'+'.join(names)}, {model.digest[:12]}"
            file = f"{case.case}_{name}.nii.gz"
            image.save(folder / "images" / file, text)
            found.spread[name].save(folder / "spread" / file, f"spread of {text}")
            found.answer[name].save(folder / "answers" / file, f"one answer, {text}")
            if settings.dicom:
                modality = modality_of(model.preprocessing.intensity_of(name))
                series = folder / "dicom" / f"{case.case}_{name}"
                write_synthetic_series(image.canonical(), series, modality, text)
            row[name] = f"images/{file}"
            row[f"{name}_spread"] = round(_mean_inside(found, name), 5)
        picture = folder / "pictures" / f"{case.case}.png"
        _write_picture(picture, shown, names, found, model.preprocessing)
        return row, row

    given = {
        "task": conversion.task, "source": list(conversion.source),
        "target": list(conversion.target), "answers": settings.answers, "seed": settings.seed,
        "given": settings.given if conversion.task == TASK else "scan",
        "rough_mm": settings.rough_mm if of_labels else 0.0,
        "thickness_mm": settings.thickness_mm,
        "model_sha256": model.digest, "model": model.facts, "made_with": facts,
    }  # fmt: skip
    return over_cases(cases, folder, "translations", given, work, progress)


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
