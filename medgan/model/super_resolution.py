"""Super-resolution of a scan: thick slices to the model's spacing, true to the slices."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.acquisition import Acquisition, coarse_scan
from medgan.data.pairs.super_resolution import FACTORS, SuperResolution
from medgan.data.prepare import PreparedScan
from medgan.model.answer import answer
from medgan.model.outputs import Translation

if TYPE_CHECKING:
    from medgan.model.model import Model

_MOST_OVERLAP = 2.0
"""Thickness of slices over their distance: scanners overlap slices by half at most."""
TASK = "super_resolution"
"""Of the models that do it."""


def restored(
    model: "Model",
    coarse: Float[np.ndarray, "C I J K"],
    acquisition: Acquisition,
    answers: int = 0,
    seed: int = 0,
) -> Float[np.ndarray, "N C X Y Z"]:
    """What the network makes of slices in [-1, 1], not yet projected on what these allow.

    The first has no noise; answers with noise follow, where the network sees any.
    """
    start = acquisition.deconvolved(coarse).clip(-1, 1)
    source = SuperResolution(len(coarse)).source(start, acquisition)
    numbers = range(answers if model.networks.needed_translator.conversion.noise else 0)
    return np.stack([answer(model, source, seed, number) for number in (None, *numbers)])


def super_resolve(
    model: "Model", scan: PreparedScan, answers: int, seed: int, thickness_mm: float
) -> Translation:
    """As `Model.translate`: on a fine grid of its own, and in the scan's intensities.

    Args:
        model: of super-resolution.
        scan: with thick slices.
        answers: with noise, where the network sees any.
        seed: of the noise.
        thickness_mm: of the slices; 0 if they touch.

    Raises:
        DataError: E_COARSE when no axis of the scan is coarser than the model's, one is far
            coarser than those it learned from, or slices are much thicker than far apart.
    """
    used = scan.source if scan.part is None else scan.part.volumes
    fine = model.preprocessing.spacing
    slices = [coarse_scan(volume, fine, thickness_mm or None) for volume in used]
    acquisition, affine = slices[0].acquisition, slices[0].affine
    _require_fit(acquisition, thickness_mm)
    scaled = [
        scale(torch.from_numpy(one.data)).numpy()
        for scale, one in zip(scan.scale, slices, strict=True)
    ]
    drawn = restored(model, np.stack(scaled), acquisition, answers, seed)
    images, spread, first = {}, {}, {}
    for number, name in enumerate(model.preprocessing.channels):
        # projected in the scan's own intensities, which the model's scale would clip
        units = [
            acquisition.project(scan.scale[number].back(one), slices[number].data)
            for one in drawn[:, number]
        ]
        usual, *others = units
        images[name] = Volume(usual, affine)
        spread[name] = Volume(np.std(others or [usual], axis=0), affine)
        first[name] = Volume(others[0] if others else usual, affine)
    return Translation(images, spread, first, max(1, len(drawn) - 1))


def _require_fit(acquisition: Acquisition, thickness_mm: float) -> None:
    wide = max((one.thickness / one.distance for one in acquisition.axes if one), default=1.0)
    if wide > _MOST_OVERLAP:
        raise DataError(
            "E_COARSE", "the scan", f"{thickness_mm:g} mm is {wide:.1f} times as thick as its "
            "slices are apart", "give translate.thickness_mm in mm, without the gap",
        )  # fmt: skip
    factors = [1.0 if slices is None else slices.distance for slices in acquisition.axes]
    if max(factors) == 1:
        raise DataError(
            "E_COARSE", "the scan", "has no axis that is coarser than the model's spacing",
            "give a scan with thicker slices, or use a model with smaller voxels",
        )  # fmt: skip
    if max(factors) > 1.5 * FACTORS[1]:
        raise DataError(
            "E_COARSE", "the scan",
            f"its slices are {max(factors):.1f} times as far apart as the model's voxels, which "
            f"learned factors up to {FACTORS[1]:g}",
            "use a model with larger voxels",
        )  # fmt: skip
