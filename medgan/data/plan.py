"""Chooses the model's grid for scans nobody has described."""

import math
from collections.abc import Sequence

import numpy as np

from medgan.core.config import DataConfig, Preprocessing
from medgan.core.errors import ConfigError
from medgan.data.conditions import learn
from medgan.data.manifest import Case

_BRAIN_MM = (155.0, 190.0, 165.0)
"""Extent along R, A and S of what is left of most heads without their skull, with its rim."""
_KEPT = 0.95
"""Share of the field of view that has to fit; the rim of a scan is air."""
_PATCH = 48
"""Longest edge of patches in voxels."""


def plan(config: DataConfig, cases: Sequence[Case]) -> Preprocessing:
    """Resolves every `auto` of the data section against the scans to be learned.

    The grid holds the 75th percentile of the scans' field of view, or brains where scans are
    stripped of their skulls. The spacing is isotropic,
    as fine as the scans or as the voxel budget allows, whichever is coarser. Where networks see
    patches it is as fine as the scans.

    Args:
        config: the data section.
        cases: the training cases.

    Raises:
        ConfigError: E_VALUE when a setting cannot be met, E_CONDITION when a condition cannot
            be learned.
    """
    extent = np.percentile([_extent_ras(case) for case in cases], 75, axis=0)
    if config.brain != "none":
        extent = np.minimum(extent, _BRAIN_MM)
    spacing = config.spacing
    if spacing == "auto":
        native = float(np.median([min(case.spacing) for case in cases]))
        if config.patches:
            edge = round(native, 3)
        elif config.shape == "auto":
            edge = _finest(extent, native, config.voxels)
        else:
            edge = max(native, float((extent / config.shape).max()))
        spacing = (edge, edge, edge)
    shape = _shape(extent, spacing) if config.shape == "auto" else config.shape
    if config.patches and config.shape == "auto":
        x, y, z = (min(_PATCH, size) for size in shape)
        shape = x, y, z
    labels = config.labels
    if labels == "auto":
        labels = tuple(sorted({value for case in cases for value in case.labels}))
    conditions = learn(config.conditions, cases, config.caption)
    try:
        return Preprocessing(
            spacing=spacing, shape=shape, channels=tuple(cases[0].images),
            intensity=config.intensity,
            window=config.window, labels=labels,
            conditions=conditions, brain=config.brain, bias=config.bias, align=config.align,
            unseen=config.unseen, ranges=config.ranges, patches=config.patches,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError("E_VALUE", "data", str(error), "correct the data section") from None


def _extent_ras(case: Case) -> np.ndarray:
    """Field of view in mm along R, A and S."""
    order = ["LRPAIS".index(letter) // 2 for letter in case.orientation]
    extent = np.empty(3)
    extent[order] = np.multiply(case.shape, case.spacing)
    return extent


def _shape(extent: np.ndarray, spacing: tuple[float, ...]) -> tuple[int, int, int]:
    sizes = (_KEPT * float(e / s) for e, s in zip(extent, spacing, strict=True))
    x, y, z = (16 * max(1, math.ceil(size / 16 - 1e-6)) for size in sizes)
    return x, y, z


def _finest(extent: np.ndarray, native: float, voxels: int) -> float:
    spacing = native
    while math.prod(_shape(extent, (round(spacing, 3),) * 3)) > voxels:
        spacing *= 1.02
    return round(spacing, 3)
