"""Lesions drawn into healthy scans, written as a data set with their masks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgan.core.config import DrawConfig, Preprocessing
from medgan.core.config.data import Intensity
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.core.table_files import table_text
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.index import examine
from medgan.data.layouts.listed import Listed
from medgan.data.lesion_bank import LesionBank
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.lesion_scale import lesion_scale, read_labelled
from medgan.data.manifest import IMAGE, Case, Manifest
from medgan.data.reading import Refuse, log_refusals, read_case, usable
from medgan.data.shape_library import SHIPPED, LesionShape, read_shapes
from medgan.model.model import Model
from medgan.model.refinement import refined, require_refiner
from medgan.workflows.augmented.decathlon import paths_of, write_decathlon
from medgan.workflows.augmented.real import save_as_stored

MARK = f"{SYNTHETIC}, lesion drawn into a scan"
Row = dict[str, Any]


def bank_of(
    cases: Sequence[Case], settings: DrawConfig, intensity: Intensity | dict[str, Intensity]
) -> LesionBank:
    """What lesions look like in scans of patients.

    Raises:
        DataError: E_LABEL, E_LESION; E_NO_SCANS where no case is as `draw.only` says.
    """
    chosen = [
        case for case in cases
        if all(case.covariates.get(name) == value for name, value in settings.only.items())
    ]  # fmt: skip
    if not chosen:
        raise DataError(
            "E_NO_SCANS", "draw.examples", "no scan is as draw.only says", "check the covariates"
        )
    kind = kind_of(intensity)
    scans = read_labelled(chosen, kind)
    return LesionBank.learn(scans, relative=kind != "ct", margin=settings.margin)


def drawing_of(settings: DrawConfig, bank: LesionBank | None) -> LesionDrawing:
    """How lesions are drawn.

    Raises:
        ConfigError: E_VALUE where masks are to come from examples and there are none.
        DataError: E_SHAPES, E_LESION.
    """
    if settings.masks == "examples" and bank is None:
        raise ConfigError(
            "E_VALUE", "draw.masks", "examples have masks, and there are none",
            "name scans of patients in draw.examples",
        )  # fmt: skip
    shapes: tuple[LesionShape, ...] = ()
    if settings.masks not in ("examples", "label"):
        shapes = read_shapes(SHIPPED if settings.masks == "shapes" else Path(settings.masks))
    return LesionDrawing(
        shapes, bank, settings.families, settings.strength, settings.margin, settings.place
    )


@dataclass(frozen=True)
class Plan:
    """What is drawn.

    Attributes:
        drawing: of `drawing_of`.
        settings: the section draw.
        intensity: of the scans.
        model: of `train.task` lesions, which refines what is drawn; None leaves it as it is.
    """

    drawing: LesionDrawing
    settings: DrawConfig
    intensity: Intensity
    model: Model | None = None


def draw_lesions(
    manifest: Manifest,
    out: Path,
    plan: Plan,
    facts: dict[str, str],
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Draws lesions into every scan, each in its own grid and intensities.

    A lesion depends on the seed, the voxels of its scan and its number alone. Beyond the margin
    around the mask, voxels are equal to the bit.

    Args:
        manifest: of healthy scans; their label maps are kept below the lesions, unless
            `draw.masks` is label: then they are the masks.
        out: receives imagesTr, labelsTr, dataset.json, lesions.csv and provenance.json.
        plan: what is drawn.
        facts: versions, for the provenance.
        refuse: receives scans that no lesion fits into; they are left out.

    Returns:
        drawn: how many scans were written; folder.

    Raises:
        DataError: E_LESION where no lesion fits into any scan.
        ModelError: E_TRANSLATOR when the model does not refine lesions.
    """
    settings = plan.settings
    if plan.model is not None:
        require_refiner(plan.model)
    rows: list[Row] = []
    cases: list[Case] = []
    results, refusals = usable(manifest.cases, lambda case: _drawn_into(case, out, plan))
    with counting("drawing lesions") as tick:
        for found in results:
            for case, row in found:
                cases.append(case)
                rows.append(row)
            tick(len(cases), settings.each * len(manifest.cases))
    refuse(refusals)
    if not cases:
        raise DataError(
            "E_LESION", "all scans", "none could be drawn into", "see refused.csv for the reasons"
        )
    values = sorted({value for case in cases for value in case.labels})
    grid = Preprocessing(
        spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16), intensity=plan.intensity, labels=tuple(values)
    )
    write_decathlon(out, [], cases, grid, False, manifest.licence, MARK)
    write_atomic(out / "lesions.csv", table_text(rows))
    provenance = {
        "synthetic": True,
        "what": MARK,
        "draw": settings.model_dump(mode="json", exclude={"examples"} | _path(settings)),
        "examples": len(plan.drawing.bank.examples) if plan.drawing.bank else 0,
        "model_sha256": plan.model.digest if plan.model else "",
        "data_digest": manifest.digest,
        "generated_with": facts,
        "cases": rows,
    }
    write_atomic(out / "provenance.json", json.dumps(provenance, indent=1))
    return {"drawn": len(cases), "folder": str(out)}


def _drawn_into(case: Case, out: Path, plan: Plan) -> list[tuple[Case, Row]]:
    """All that is drawn from one scan, written and checked."""
    scan, each = read_case(case), range(plan.settings.each)
    image, label = scan.volumes[0], scan.label.volume if scan.label else None
    # All, before any is written: a scan that is left out leaves no file.
    drawn = [_draw(case, image, label, number, plan) for number in each]
    return [_written(case, n, out, plan.settings, *one) for n, one in enumerate(drawn)]


def _draw(
    case: Case, image: Volume, label: Volume | None, number: int, plan: Plan
) -> tuple[Volume, Volume, list[str]]:
    """The scan with its lesions, its new label map, and what was drawn."""
    settings, drawing = plan.settings, plan.drawing
    rng = np.random.default_rng([settings.seed, number, int(case.sha256[:8], 16)])
    plain = image.canonical()
    native = np.ascontiguousarray(plain.data, np.float32)
    labels = np.zeros(native.shape, np.int64)
    if label is not None:
        labels = np.rint(label.canonical().data).astype(np.int64)
    elif settings.masks == "label":
        raise DataError("E_LABEL", case.case, "no label map", "give masks, or change draw.masks")
    given = labels > 0 if settings.masks == "label" else None
    scale = lesion_scale(native, plan.intensity)
    kinds = []
    for _ in range(settings.lesions):
        volume = scale(torch.from_numpy(native)).numpy()
        lesion = drawing(volume, plain.spacing, rng, given, labels == settings.value)
        if plan.model is not None:  # which learned to refine drawings in a mask
            lesion = drawing(volume, plain.spacing, rng, lesion.mask)
            coarse = plain.like(lesion.onto(volume, native, scale))
            better = refined(plan.model, coarse, lesion.mask, case.case, int(rng.integers(2**31)))
            native = lesion.blended(native, better[lesion.box])
        else:
            native = lesion.onto(volume, native, scale)
        labels[lesion.mask] = settings.value
        kinds.append(lesion.kind)
    return image.from_canonical(_as_stored(native, image)), image.from_canonical(labels), kinds


def _as_stored(native: np.ndarray, image: Volume) -> np.ndarray:
    """Whole numbers within the range of the scan's own type where all of its voxels are such."""
    assert image.header is not None, "the scan was read from a file"
    kind = np.dtype(image.header.get_data_dtype())
    if kind.kind not in "iu" or (image.data % 1).any():
        return native
    limits = np.iinfo(kind)
    return np.rint(native).clip(limits.min, limits.max).astype(np.float32)


def _written(
    case: Case,
    number: int,
    out: Path,
    settings: DrawConfig,
    image: Volume,
    label: Volume,
    kinds: Sequence[str],
) -> tuple[Case, Row]:
    name = f"synthetic-lesion-s{settings.seed}-{case.case}-{number:02d}"
    image_path, label_path = (out / path for path in paths_of(name))
    save_as_stored(image, image_path, MARK)
    label.like(label.data.astype(np.uint16 if label.data.max() > 255 else np.uint8)).save(
        label_path, MARK
    )
    listed = Listed(
        name, case.subject, {IMAGE: image_path.resolve()}, label_path.resolve(),
        (("synthetic", "yes"),),
    )  # fmt: skip
    checked = replace(examine(listed, name, case.subject), split="train")
    volume = dict(zip(checked.labels, checked.label_mm3, strict=True)).get(settings.value, 0.0)
    row: Row = {
        "name": name, "case": case.case, "number": number, "drawn": "; ".join(kinds),
        "mm3": f"{volume:g}", "sha256": checked.sha256, "label_sha256": checked.label_sha256,
    }  # fmt: skip
    return checked, row


def _path(settings: DrawConfig) -> set[str]:
    return set() if settings.masks in ("shapes", "examples", "label") else {"masks"}


def kind_of(intensity: Intensity | dict[str, Intensity]) -> Intensity:
    """Of scans of one channel."""
    return next(iter(intensity.values())) if isinstance(intensity, dict) else intensity
