"""Coarse drawings of lesions made like real ones by a model of `train.task` lesions."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from medgan.core.errors import ModelError
from medgan.core.volume import Volume, bounds
from medgan.data.pairs import pairing_of
from medgan.model.answer import answer

if TYPE_CHECKING:
    from medgan.model.model import Model

TASK = "lesions"
"""Of the models that do it."""


def require_refiner(model: "Model") -> None:
    """Refuses a model that was not trained to refine lesions.

    Raises:
        ModelError: E_TRANSLATOR.
    """
    translator = model.networks.translator
    if translator is None or translator.conversion.task != TASK:
        raise ModelError(
            "E_TRANSLATOR", "the model", "does not refine lesions",
            "use one with train.task lesions, or none",
        )  # fmt: skip


def refined(
    model: "Model", image: Volume, mask: Bool[np.ndarray, "X Y Z"], case: str, seed: int
) -> Float[np.ndarray, "X Y Z"]:
    """A scan with a lesion that was drawn into it, as the model would have it.

    Args:
        model: of the task.
        image: one channel in its own grid and intensities.
        mask: of the lesion.
        case: pseudonym of the scan.
        seed: of the noise.

    Returns:
        Voxels of the image's grid; those around the lesion alone are of use.

    Raises:
        ModelError: E_TRANSLATOR when the model was not trained for it.
        DataError: where the scan cannot be prepared.
    """
    require_refiner(model)
    conversion = model.networks.needed_translator.conversion
    scan = model.prepare(image, case)
    volume = scan.volume.numpy().copy()
    where = scan.label_map(image.like(mask.astype(np.float32))) > 0
    if not where.any():
        return np.asarray(image.data, np.float32)
    box = _window(where, model.preprocessing.shape)
    both = np.stack([volume[0], 2.0 * where - 1])[(slice(None), *box)]
    source = pairing_of(model.preprocessing, conversion).source(both)
    volume[(slice(None), *box)] = answer(model, source, seed, 0)
    return np.asarray(scan.in_scanner_units(np.nan_to_num(volume[0], nan=-1)).data)


def _window(
    mask: Bool[np.ndarray, "X Y Z"], shape: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """A box of at least the model's size about a mask, as far as the volume goes."""
    sides = []
    for side, least, size in zip(bounds(mask), shape, mask.shape, strict=True):
        more = max(0, least - (side.stop - side.start))
        start = max(0, min(side.start - more // 2, size - least))
        sides.append(slice(start, min(size, max(side.stop, start + least))))
    x, y, z = sides
    return x, y, z
