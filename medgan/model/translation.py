"""One image of another, in the grid of the scan that is given."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from medgan.core.config import Preprocessing
from medgan.core.errors import ModelError
from medgan.core.volume import Volume
from medgan.data.intensities import synthetic_scale
from medgan.data.pairs import pairing_of
from medgan.data.prepare import PreparedScan
from medgan.model import refinement, super_resolution
from medgan.model.answer import answer
from medgan.model.outputs import Translation

if TYPE_CHECKING:
    from medgan.model.model import Model


def source_preprocessing(preprocessing: Preprocessing, source: tuple[str, ...]) -> Preprocessing:
    """The preprocessing of a scan of which only the channels of the source are there."""
    if not source:
        return preprocessing
    kinds = {name: preprocessing.intensity_of(name) for name in source}
    unseen = {name: fill for name, fill in preprocessing.unseen.items() if name in source}
    changed = {"channels": source, "intensity": kinds, "unseen": unseen}
    return preprocessing.model_copy(update=changed)


def translate(model: "Model", scan: PreparedScan, answers: int, seed: int) -> Translation:
    """As `Model.translate`."""
    translator = model.networks.needed_translator
    conversion = translator.conversion
    if conversion.task == super_resolution.TASK:
        return super_resolution.super_resolve(model, scan, answers, seed)
    if conversion.task == refinement.TASK:
        raise ModelError(
            "E_TRANSLATOR", "the model", "refines lesions and translates nothing",
            "use it with medgan lesions",
        )  # fmt: skip
    source = pairing_of(model.preprocessing, conversion).source(scan.volume.numpy())
    count = answers if conversion.noise else 1
    drawn = np.stack([answer(model, source, seed, number) for number in range(count)])
    seen = np.asarray(np.isfinite(scan.volume.numpy()).all(axis=0))
    images, spread, first = {}, {}, {}
    for channel, name in enumerate(conversion.target):
        scale, values = synthetic_scale(model.preprocessing, name), drawn[:, channel]
        lowest, units = scale.intensities[0], scale.back(values)
        images[name] = _native(scan, scale.back(values.mean(axis=0)), seen, lowest)
        spread[name] = _native(scan, units.std(axis=0), seen, 0.0)
        first[name] = _native(scan, units[0], seen, lowest)
    return Translation(images, spread, first, count)


def _native(
    scan: PreparedScan,
    values: Float[np.ndarray, "X Y Z"],
    seen: Bool[np.ndarray, "X Y Z"],
    outside: float,
) -> Volume:
    """Values in the scan's own grid; `outside` where its channels were not all seen."""
    return scan.back(np.where(seen, values, outside), outside)
