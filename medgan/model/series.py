"""A scan, or a synthetic subject, along one continuous condition: the same brain, ageing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.data.conditions import Value, understood
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.data.prepare import PreparedScan
from medgan.model.generation import generate_channels, synthetic, warn_of_unusual
from medgan.model.inversion import STEPS, invert, known_before_change, with_difference
from medgan.model.outputs import Inversion, Latent
from medgan.model.scans import Scan

if TYPE_CHECKING:
    from medgan.model.model import Model


@dataclass(frozen=True)
class Frame:
    """A subject at one value of a condition.

    Attributes:
        value: of the condition.
        image: a scan in its own grid and intensities; of a synthetic subject as `Synthetic.image`.
        volume: (1, X, Y, Z) in [-1, 1] on the model's grid.
        label: label map of a synthetic subject, where the model learned labels.
    """

    value: float
    image: Volume
    volume: Float[Tensor, "1 X Y Z"]
    label: Volume | None = None


@dataclass(frozen=True)
class Series:
    """One subject at several values of a condition.

    Attributes:
        along: name of the condition.
        start: the subject itself: its scan, or what is generated with its own covariates. Its
            value is NaN where unknown.
        frames: in the order of the values that were asked for.
        covariates: the subject's own, None where unknown.
        inversion: of the scan; None for a synthetic subject.
    """

    along: str
    start: Frame
    frames: tuple[Frame, ...]
    covariates: dict[str, Value]
    inversion: Inversion | None = None


def series(
    model: "Model",
    subject: Latent | Scan,
    along: str,
    values: Sequence[float],
    covariates: Mapping[str, Value] | None = None,
    steps: int = STEPS,
) -> Series:
    """The same subject at several values of a condition, such as a brain from 40 to 80 years.

    A scan is inverted once. Each frame is the scan plus the difference between what its latent
    generates with the value and with its own covariates, as in `Model.edit`: noise and fine
    folds stay, and the frame at the scan's own value is the scan. Of a latent, such as
    `model.draw(3)`, each frame is what it generates.

    Args:
        model: with a continuous condition `along`.
        subject: a scan, or a latent.
        along: name of the condition.
        values: of the frames, in any order.
        covariates: of the subject, such as `{"age": 55, "sex": "F"}`.
        steps: of the inversion.

    Raises:
        ConfigError: E_CONDITION where the model has no such condition or it is no number;
            E_CHANNEL for a model of several image channels.
    """
    require_continuous(model, along)
    own = {**(subject.covariates if isinstance(subject, Latent) else {}), **(covariates or {})}
    low, high = min(values), max(values)  # what lies between is no more unusual
    known = known_before_change(model, "a series", {along: high}, own)
    if low < high:
        warn_of_unusual(model, {along: low})
    asked = [{**known, along: float(value)} for value in values]
    if isinstance(subject, Latent):
        start, *frames = (_generated(model, subject, along, one) for one in (known, *asked))
        return Series(along, start, tuple(frames), known)
    scan = model.prepare(subject)
    inversion = invert(model, scan, steps, known)
    before = _channels(model, inversion.latent, known)
    start = _added(scan, before, before, along, known)
    frames = [
        _added(scan, before, _channels(model, inversion.latent, one), along, one) for one in asked
    ]
    return Series(along, start, tuple(frames), known, inversion)


def require_continuous(model: "Model", along: str) -> None:
    """Refuses a condition that a model does not have, or that is no number.

    Raises:
        ConfigError: E_CONDITION.
    """
    conditions = model.preprocessing.conditions
    names = [condition.name for condition in conditions if condition.kind == "continuous"]
    if along not in names:
        known = along in [condition.name for condition in conditions]
        raise ConfigError(
            "E_CONDITION", along or "latent.along",
            "a category and no number to go along" if known else "no condition of this model",
            f"go along {' or '.join(names)}" if names else "train with a continuous condition",
        )  # fmt: skip


def _channels(model: "Model", latent: Latent, covariates: Mapping[str, Value]) -> Tensor:
    return generate_channels(model, Latent(latent.values, dict(covariates)))[0]


def _value(covariates: Mapping[str, Value], along: str) -> float:
    value = covariates[along]
    return float("nan") if value is None else float(value)


def _generated(model: "Model", latent: Latent, along: str, covariates: dict[str, Value]) -> Frame:
    known = understood(model.preprocessing.conditions, covariates)
    channels = _channels(model, latent, known)
    scan = synthetic(model, channels[None], None, 0, known, SMALLEST_COMPONENT)
    return Frame(_value(known, along), scan.image, channels[:1], scan.label)


def _added(
    scan: PreparedScan, before: Tensor, after: Tensor, along: str, covariates: Mapping[str, Value]
) -> Frame:
    image, _ = with_difference(scan, before, after)
    volume = (scan.volume.cpu() + after[:1] - before[:1]).clamp(-1, 1)
    return Frame(_value(covariates, along), image, volume)
