"""Harmonisation of a scan: its own voxels plus the change that gives it another site's style."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from medgan.core.volume import Volume
from medgan.data.pairs import pairing_of
from medgan.data.prepare import PreparedScan
from medgan.model.answer import answer
from medgan.model.outputs import Translation

if TYPE_CHECKING:
    from medgan.model.model import Model


def harmonise(model: "Model", scan: PreparedScan) -> Translation:
    """As `Model.translate`: in the scan's own grid and scale of intensities.

    The change is found on the model's grid and added to the scan, so that detail finer than this
    grid stays, and so do intensities beyond the percentiles or window that networks see.
    """
    conversion = model.networks.needed_translator.conversion
    source = pairing_of(model.preprocessing, conversion).source(scan.volume.numpy())
    changed = answer(model, source, 0, 0)
    images, spread = {}, {}
    for number, name in enumerate(conversion.target):
        before, after = (scan.intensities(part[number], number) for part in (source, changed))
        images[name] = _added(scan.source[number], scan.back(after - before))
        spread[name] = images[name].like(np.zeros_like(images[name].data))
    return Translation(images, spread, images, 1)


def _added(source: Volume, change: Volume) -> Volume:
    """The scan with a change; what has its lowest value, as air without noise, keeps it."""
    data: Float[np.ndarray, "X Y Z"] = source.data.astype(np.float32)
    lowest = data.min()
    changed = np.where(data > lowest, np.maximum(data + change.data, lowest), lowest)
    return source.like(changed.astype(np.float32))
