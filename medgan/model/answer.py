"""Answers of a translator that slides over a whole scan, and what they are together."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.core.volume import Volume
from medgan.data.intensities import synthetic_scale
from medgan.model.outputs import Translation

if TYPE_CHECKING:
    from medgan.model.model import Model

_OVERLAP = 0.5
"""Of windows that slide over a scan, along each axis."""
_AT_ONCE = 4
"""Windows in memory at a time."""


@torch.no_grad()
def answer(
    model: "Model", source: Float[np.ndarray, "S X Y Z"], seed: int = 0, number: int | None = None
) -> Float[np.ndarray, "T X Y Z"]:
    """One answer for a whole scan, of windows that overlap and see parts of the same noise.

    Args:
        model: that makes one image of another.
        source: of its pairing.
        seed: of the noise.
        number: of the answer, and so of its noise; None is the answer without any.
    """
    from monai.inferers.utils import sliding_window_inference

    translator = model.networks.needed_translator
    shown = torch.from_numpy(source)[None]
    with_noise = False
    if translator.conversion.noise and number is not None:
        with_noise = True
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


def mirrored_answer(
    model: "Model", source: Float[np.ndarray, "S X Y Z"]
) -> Float[np.ndarray, "T X Y Z"]:
    """The mean answer without noise for a scan and its images mirrored along each axis."""
    found = answer(model, source)
    for axis in (1, 2, 3):
        found += np.flip(answer(model, np.flip(source, axis).copy()), axis)
    return found / 4


def several(
    model: "Model", source: Float[np.ndarray, "S X Y Z"], answers: int, seed: int
) -> Float[np.ndarray, "N T X Y Z"]:
    """Answers with noise; one without it of a model that sees none."""
    if not model.networks.needed_translator.conversion.noise:
        return answer(model, source)[None]
    return np.stack([answer(model, source, seed, number) for number in range(answers)])


def answers_in_units(
    model: "Model",
    source: Float[np.ndarray, "S X Y Z"],
    answers: int,
    seed: int,
    back: Callable[[np.ndarray, float], Volume],
    mirrored: bool = False,
) -> Translation:
    """Several answers for a whole scan, in HU, SUV or the unit of synthetic MRI.

    Args:
        model: that makes one image of another.
        source: of its pairing.
        answers: with noise; a model that sees none has one.
        seed: of the answers.
        back: a map of the model's grid, and its value outside of it, to a volume.
        mirrored: whether the image is a mean over mirrored scans; for what was learned from such.
    """
    conversion = model.networks.needed_translator.conversion
    usual = mirrored_answer(model, source) if mirrored else answer(model, source)
    drawn = several(model, source, answers, seed)
    images, spread, first = {}, {}, {}
    for channel, name in enumerate(conversion.target):
        scale = synthetic_scale(model.preprocessing, name)
        lowest, units = scale.intensities[0], scale.back(drawn[:, channel])
        images[name] = back(scale.back(usual[channel]), lowest)
        spread[name] = back(units.std(axis=0), 0.0)
        first[name] = back(units[0], lowest)
    return Translation(images, spread, first, len(drawn))
