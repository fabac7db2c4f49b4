"""One image of another, in the grid of the scan that is given."""

from typing import TYPE_CHECKING

import numpy as np

from medgan.core.config import Preprocessing
from medgan.core.errors import ModelError
from medgan.core.volume import Volume
from medgan.data.pairs import pairing_of
from medgan.data.prepare import PreparedScan
from medgan.model import refinement
from medgan.model.answer import answers_in_units
from medgan.model.harmonisation import harmonise
from medgan.model.outputs import Translation
from medgan.model.super_resolution import TASK, super_resolve

if TYPE_CHECKING:
    from medgan.model.model import Model


def source_preprocessing(preprocessing: Preprocessing, source: tuple[str, ...]) -> Preprocessing:
    """The preprocessing of a scan of which only the channels of the source are there."""
    if not source:
        return preprocessing
    kinds = {name: preprocessing.intensity_of(name) for name in source}
    unseen = {name: fill for name, fill in preprocessing.unseen.items() if name in source}
    ranges = {name: ends for name, ends in preprocessing.ranges.items() if name in source}
    changed = {"channels": source, "intensity": kinds, "unseen": unseen, "ranges": ranges}
    return preprocessing.model_copy(update=changed)


def translate(
    model: "Model", scan: PreparedScan, answers: int, seed: int, thickness_mm: float
) -> Translation:
    """As `Model.translate`."""
    conversion = model.networks.needed_translator.conversion
    if conversion.task == TASK:
        return super_resolve(model, scan, answers, seed, thickness_mm)
    if conversion.task == refinement.TASK:
        raise ModelError(
            "E_TRANSLATOR", "the model", "refines lesions and translates nothing",
            "use it with medgan lesions",
        )  # fmt: skip
    if not conversion.paired:
        return harmonise(model, scan)
    source = pairing_of(model.preprocessing, conversion).source(scan.volume.numpy())
    seen = np.isfinite(scan.volume.numpy()).all(axis=0)

    def back(values: np.ndarray, outside: float) -> Volume:
        return scan.back(np.where(seen, values, outside), outside)

    return answers_in_units(model, source, answers, seed, back, mirrored=True)
