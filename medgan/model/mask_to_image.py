"""A scan of a label map: exact, or with a rough outline."""

from typing import TYPE_CHECKING

import numpy as np

from medgan.core.errors import ConfigError, DataError
from medgan.core.volume import Volume
from medgan.data.grid import Centred, Grid, check_resampled_size
from medgan.data.pairs import pairing_of
from medgan.data.pairs.mask_to_image import MaskToImage
from medgan.model.answer import answers_in_units
from medgan.model.outputs import Translation

if TYPE_CHECKING:
    from medgan.model.model import Model

TASK = "mask_to_image"
"""Of the models that do it."""


def image_of(
    model: "Model", label_map: Volume, rough_mm: float, answers: int, seed: int, case: str
) -> Translation:
    """As `Model.image_of`.

    Args:
        model: of `TASK`.
        label_map: on any grid.
        rough_mm: how far its outline may be off.
        answers: whose spread is returned.
        seed: of the answers.
        case: the pseudonym under which an error names it.
    """
    grid, conversion = model.preprocessing, model.networks.needed_translator.conversion
    pairing = pairing_of(grid, conversion)
    if not isinstance(pairing, MaskToImage):
        raise ConfigError(
            "E_VALUE", "the model", f"was trained for {conversion.task}",
            f"use a model of train.task={TASK}",
        )  # fmt: skip
    check_resampled_size(label_map, grid.spacing, case)
    _require_labels(label_map, grid.labels, case)
    to_grid, of_labels = Grid(grid), Grid(grid, labels=True)
    data = np.asarray(label_map.data, np.float32)[None]
    _, record = to_grid.resample(data, label_map.affine)
    placement = Centred(to_grid, of_labels, record, label_map.affine)
    outline = pairing.outline(placement.label_map(label_map), rough_mm / float(min(grid.spacing)))
    source = pairing.given(outline, None)

    def back(values: np.ndarray, outside: float) -> Volume:
        native = placement.back(values, outside)
        return Volume(native, label_map.affine, label_map.header)

    return answers_in_units(model, source, answers, seed, back)


def _require_labels(label_map: Volume, labels: tuple[int, ...], case: str) -> None:
    """Refuses a map with a value that the model has not learned, or with none that it has.

    Raises:
        DataError: E_LABEL.
    """
    found = {float(value) for value in np.unique(label_map.data)} - {0.0}
    if not found or found - set(map(float, labels)):
        values = ", ".join(f"{value:g}" for value in sorted(found)[:5]) or "none"
        raise DataError(
            "E_LABEL", case, f"has the label values {values}; the model knows "
            f"{', '.join(map(str, labels))}",
            "give a label map with these values, or set translate.given=scan for a blurred scan",
        )  # fmt: skip
