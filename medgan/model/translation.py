"""One image of another: a translator that slides over a whole scan."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.core.volume import Volume
from medgan.data.intensities import synthetic_scale
from medgan.data.pairs import pairing_of
from medgan.data.prepare import PreparedScan
from medgan.model.outputs import Translation

if TYPE_CHECKING:
    from medgan.model.model import Model

_OVERLAP = 0.5
"""Of windows that slide over a scan, along each axis."""
_AT_ONCE = 4
"""Windows in memory at a time."""


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
    source = pairing_of(model.preprocessing, conversion).source(scan.volume.numpy())
    count = answers if conversion.noise else 1
    drawn = np.stack([_answer(model, source, seed, number) for number in range(count)])
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


@torch.no_grad()
def _answer(
    model: "Model", source: Float[np.ndarray, "S X Y Z"], seed: int, number: int
) -> Float[np.ndarray, "T X Y Z"]:
    """One answer for a whole scan, of windows that overlap and see parts of the same noise."""
    from monai.inferers.utils import sliding_window_inference

    translator = model.networks.needed_translator
    shown = torch.from_numpy(source)[None]
    with_noise = translator.conversion.noise
    if with_noise:
        random = torch.Generator().manual_seed(seed * 1_000_003 + number)
        noise = torch.randn(1, 1, *shown.shape[2:], generator=random)
        shown = torch.cat([shown, noise], dim=1)

    images = translator.source_channels

    def network(windows: Tensor) -> Tensor:
        return translator(windows[:, :images], windows[:, images:] if with_noise else None)

    drawn = sliding_window_inference(
        shown, model.preprocessing.shape, _AT_ONCE, network, _OVERLAP, mode="gaussian",
        padding_mode="constant", cval=-1.0, sw_device=model.device, device="cpu",
    )  # fmt: skip
    assert isinstance(drawn, Tensor)
    return drawn[0].float().numpy()
