"""A scan, or a synthetic subject, along a condition or a direction: the same brain, ageing."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.core.errors import ConfigError, require_one_channel
from medgan.core.volume import Volume
from medgan.data.conditions import Value, understood
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.data.numeric import NUMBERS
from medgan.data.prepare import PreparedScan
from medgan.model.generation import generate_channels, synthetic, warn_of_unusual
from medgan.model.hull import remark_on
from medgan.model.inversion import (
    STEPS,
    edited_volume,
    invert,
    known_before_change,
    remarks_on_scans,
    with_difference,
)
from medgan.model.outputs import Inversion, Latent
from medgan.model.scans import Scan
from medgan.networks.directions import closed_form, first_layers

if TYPE_CHECKING:
    from medgan.model.model import Model

log = logging.getLogger(__name__)
DIRECTION = re.compile(r"direction:(\d+)")
"""A direction of the latent by its number, from 1, in place of the name of a condition."""


@dataclass(frozen=True)
class Frame:
    """A subject at one value of a condition, or at one place along a direction.

    Attributes:
        value: of the condition; NaN where unknown. Along a direction, how far from the subject.
        image: a scan in its own grid and intensities; of a synthetic subject as `Synthetic.image`.
        volume: (1, X, Y, Z) in [-1, 1] on the model's grid.
        latent: (L,), from which it was generated.
        label: label map of a synthetic subject, where the model learned labels.
        p_value: of a scan, as that of an inversion.
    """

    value: float
    image: Volume
    volume: Float[Tensor, "1 X Y Z"]
    latent: Float[np.ndarray, " L"]
    label: Volume | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Series:
    """One subject at several values.

    Attributes:
        along: name of a condition, or `direction:1`.
        start: the subject itself: its scan, or what is generated from its own latent.
        frames: in the order of the values that were asked for.
        covariates: the subject's own, None where unknown.
        inversion: of the scan; None for a synthetic subject.
        remarks: what the generator was not trained on.
    """

    along: str
    start: Frame
    frames: tuple[Frame, ...]
    covariates: dict[str, Value]
    inversion: Inversion | None = None
    remarks: tuple[str, ...] = ()


def series(
    model: "Model",
    subject: Latent | Scan,
    along: str,
    values: Sequence[float],
    covariates: Mapping[str, Value] | None = None,
    steps: int = STEPS,
    direction: Float[np.ndarray, " L"] | None = None,
) -> Series:
    """The same subject at several values of a condition, such as a brain from 40 to 80 years.

    A scan is inverted once. Each frame is the scan plus the difference between what its latent
    generates with the value and with its own covariates, as in `Model.edit`: noise and fine
    folds stay, and the frame at the scan's own value is the scan. Of a latent, such as
    `model.draw(3)`, each frame is what it generates.

    Along `direction:1`, values move the latent by so many standard deviations, and the covariates
    stay; the frame at 0 is the subject.

    Args:
        model: with a continuous or periodic condition `along`.
        subject: a scan, or a latent.
        along: name of the condition, or the number of a direction of `medgan directions`.
        direction: one of another kind, which `along` then only names.
        values: of the frames, in any order.
        covariates: of the subject, such as `{"age": 55, "sex": "F"}`.
        steps: of the inversion.

    Raises:
        ConfigError: E_CONDITION where the model has no such condition or it is no number;
            E_CHANNEL for a model of several image channels.
    """
    direction = direction_of(model, along) if direction is None else direction
    own = {**(subject.covariates if isinstance(subject, Latent) else {}), **(covariates or {})}
    known = _known(model, along, values, own, direction is None)
    scan, inversion = None, None
    if isinstance(subject, Latent):
        start = Latent(subject.values, known)
    else:
        scan = model.prepare(subject)
        inversion = invert(model, scan, steps, known)
        start = inversion.latent
    places = [(start, 0.0 if direction is not None else _number(known[along]))]
    for value in map(float, values):
        moved = Latent(start.values, {**known, along: value})
        if direction is not None:
            moved = Latent((start.values + value * direction).astype(np.float32), known)
        places.append((moved, value))
    remark = remark_on(latent.values for latent, _ in places)
    if remark:
        log.warning("%s: the model has to guess", remark)
    remarks = [remark] if remark else []
    if scan is None:
        first, *frames = (_generated(model, *place) for place in places)
    else:
        before = generate_channels(model, start)[0]
        first, *frames = (_added(model, scan, before, *place) for place in places)
        volumes = torch.stack([frame.volume for frame in frames])
        names = [f"the scan at {along} {frame.value:.4g}" for frame in frames]
        p_values, unlike = remarks_on_scans(model, volumes, names, inversion)
        remarks += unlike
        pairs = zip(frames, p_values, strict=True)
        frames = [replace(frame, p_value=p_value) for frame, p_value in pairs]
    return Series(along, first, tuple(frames), known, inversion, tuple(remarks))


def direction_of(model: "Model", along: str) -> Float[np.ndarray, " L"] | None:
    """The direction that `direction:1` names; None for the name of a condition that is a number.

    Raises:
        ConfigError: E_CONDITION for a condition that the model does not have, or that is no number;
            E_VALUE for a direction that it does not have.
    """
    numbered = DIRECTION.fullmatch(along)
    if not numbered:
        _require_continuous(model, along)
        return None
    number, most = int(numbered[1]), model.sizes.latent
    if not 1 <= number <= most:
        raise ConfigError("E_VALUE", along, "no such direction", f"name one from 1 to {most}")
    weights = first_layers(model.networks.generator)
    return closed_form(weights, number).vectors[number - 1].numpy()


def _known(
    model: "Model", along: str, values: Sequence[float], own: Mapping[str, Value], condition: bool
) -> dict[str, Value]:
    """What the model makes of the subject's own covariates; warns of what is unusual."""
    if not condition:
        require_one_channel("a series", model.preprocessing.channels)
        warn_of_unusual(model, own)
        return understood(model.preprocessing.conditions, own)
    low, high = min(values), max(values)  # what lies between is no more unusual
    if low < high:
        warn_of_unusual(model, {along: low})
    return known_before_change(model, "a series", {along: high}, own)


def _require_continuous(model: "Model", along: str) -> None:
    conditions = model.preprocessing.conditions
    names = [condition.name for condition in conditions if condition.kind in NUMBERS]
    if along not in names:
        known = along in [condition.name for condition in conditions]
        remedy = f"go along {' or '.join(names)}" if names else "train with a continuous condition"
        raise ConfigError(
            "E_CONDITION", along or "latent.along",
            "a category and no number to go along" if known else "no condition of this model",
            f"{remedy}, or go along direction:1",
        )  # fmt: skip


def _number(value: Value) -> float:
    return math.nan if value is None else float(value)


def _generated(model: "Model", latent: Latent, value: float) -> Frame:
    channels = generate_channels(model, latent)
    scan = synthetic(model, channels, None, 0, latent.covariates, SMALLEST_COMPONENT)
    return Frame(value, scan.image, channels[0, :1], latent.values, scan.label)


def _added(
    model: "Model", scan: PreparedScan, before: Tensor, latent: Latent, value: float
) -> Frame:
    after = generate_channels(model, latent)[0]
    image, _ = with_difference(scan, before, after)
    return Frame(value, image, edited_volume(scan, before, after), latent.values)
