"""What a sweep varies: values and ranges, checked before any training begins."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from medgan.app.steps import CONVERSION
from medgan.core.config import Config, Range, build, merge
from medgan.core.errors import ConfigError

Label = bool | int | float | str
"""A value as Optuna keeps it: lists are JSON."""
Drawn = dict[str, Label]
"""One value of each setting that varies."""
MOST_COMBINATIONS = 1000
_NOT = {
    "train": {"task", "along", "metric", "device", "start_from", "sample_every", "minutes"},
    "model": set(),
    "translate": {"source", "target", "target_data"},
}
"""What decides by which figure a training is judged, when, on which scans and where, and paths."""
_REMEDY = "vary other settings of train and model, or translate.noise and translate.adversarial"


@dataclass(frozen=True)
class Space:
    """Settings that vary, over checked values.

    Attributes:
        values: all settings of a trial, nested, before those that vary are laid over them.
        choices: by setting, its values as Optuna keeps them.
        ranges: by setting; whole numbers where the setting is one.
    """

    values: Mapping[str, Any]
    choices: Mapping[str, tuple[Label, ...]]
    ranges: Mapping[str, Range]
    whole: frozenset[str]

    @property
    def combinations(self) -> int:
        """How many there are; 0 with ranges, which have no end."""
        return 0 if self.ranges else math.prod(map(len, self.choices.values()))

    def grid(self) -> list[Drawn]:
        """Every combination, the last setting changing fastest."""
        return [
            dict(zip(self.choices, one, strict=True))
            for one in itertools.product(*self.choices.values())
        ]

    def config(self, drawn: Drawn, **others: Any) -> Config:  # noqa: ANN401 - any section
        """The settings of a trial.

        Args:
            drawn: its values.
            others: nested settings that win, such as `out`.

        Raises:
            ConfigError: E_VALUE where they do not go together.
        """
        values = merge(self.values, {})
        for key, label in drawn.items():
            values = merge(values, nested(key, _value(label)))
        return build(merge(values, others))

    def description(self) -> dict[str, str]:
        """What each setting is varied over, in words."""
        words = {key: ", ".join(map(setting_text, found)) for key, found in self.choices.items()}
        for key, one in self.ranges.items():
            words[key] = f"{one.low:g} to {one.high:g}{', logarithmic' if one.log else ''}"
        return words


def setting_text(label: Label) -> str:
    """A value as --set takes it."""
    if isinstance(label, float) and float(f"{label:g}") == label:
        return f"{label:g}"
    return label if isinstance(label, str) else json.dumps(label)


def nested(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    """A value under `section.key`."""
    section, _, name = key.partition(".")
    return {section: {name: value}}


def read_over(texts: Sequence[str]) -> dict[str, Any]:
    """What --over says: `section.key=1,2,3`, or `section.key=1:10` and `section.key=1:10:log`.

    Raises:
        ConfigError: E_SET, E_YAML.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, separator, values = (part.strip() for part in text.partition("="))
        if not separator or not values:
            raise ConfigError(
                "E_SET", text, "no values", "write section.key=1,2,3 or section.key=1:10"
            )
        found[key] = _range(values) or _list(key, values)
    return found


def _range(text: str) -> dict[str, Any] | None:
    """Ends of `low:high` or `low:high:log`; None of any other text."""
    low, _, rest = text.partition(":")
    high, _, kind = rest.partition(":")
    try:
        ends = {"low": float(low), "high": float(high)}
    except ValueError:
        return None
    return {**ends, "log": kind == "log"} if kind in ("", "log") else None


def _list(key: str, text: str) -> list[Any]:
    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        raise ConfigError(
            "E_YAML", key, "no list of values", "write 1,2,3 or [16,32],[32,64]"
        ) from None


def space_of(config: Config) -> Space:
    """What a configuration asks to vary, with each value and end of a range tried out.

    Raises:
        ConfigError: E_SWEEP without anything to vary; E_KEY, E_VALUE, E_SET for a setting or a
            value that a trial could not have.
    """
    if not config.sweep.over:
        raise ConfigError(
            "E_SWEEP", "sweep.over", "names nothing to vary",
            "give --over train.learning_rate=1e-4,4e-4, or a section sweep in the pipeline",
        )  # fmt: skip
    values = config.model_dump(mode="json", exclude={"sweep"})
    choices: dict[str, tuple[Label, ...]] = {}
    ranges: dict[str, Range] = {}
    whole = set()
    for key, over in config.sweep.over.items():
        _require_comparable(key)
        if isinstance(over, Range):
            ends = [_accepted(config, values, key, end) for end in (over.low, over.high)]
            if isinstance(ends[0], int):
                whole.add(key)
            elif not isinstance(ends[0], float):
                raise ConfigError("E_VALUE", key, "is no number", "give a list of values")
            ranges[key] = over
            continue
        labels = tuple(_label(_accepted(config, values, key, value)) for value in over)
        if not labels or len(set(map(str, labels))) < len(labels):
            raise ConfigError("E_VALUE", key, "no value, or one twice", "name each value once")
        choices[key] = labels
    return Space(values, choices, ranges, frozenset(whole))


def _require_comparable(key: str) -> None:
    """Refuses settings that change the scans, the grid or the figure: trials could not be compared.

    Raises:
        ConfigError: E_KEY, E_SET.
    """
    section, _, name = key.partition(".")
    fields = getattr(Config.model_fields.get(section), "annotation", None)
    if not name or not hasattr(fields, "model_fields"):
        build({section: {}} if name else {key: {}})  # which says what was meant
        raise ConfigError("E_SET", key, "is no single setting", "write section.key")
    known = section in ("model", "train") or key in CONVERSION
    if name in getattr(fields, "model_fields", {}) and (not known or name in _NOT[section]):
        raise ConfigError("E_SET", key, "cannot be varied: trials could not be compared", _REMEDY)


def _accepted(config: Config, values: Mapping[str, Any], key: str, value: Any) -> Any:  # noqa: ANN401
    """A value as the configuration holds it.

    Raises:
        ConfigError: E_KEY, E_VALUE.
    """
    section, _, name = key.partition(".")
    whole = type(getattr(getattr(config, section), name, None)) is int
    given = int(value) if whole and isinstance(value, float) and value.is_integer() else value
    changed = build(merge(values, nested(key, given)))
    return changed.model_dump(mode="json")[section][name]


def _value(label: Label) -> Any:  # noqa: ANN401 - any setting
    written = isinstance(label, str) and (label == "null" or label[:1] in ("[", "{"))
    return json.loads(label) if written else label  # pyright: ignore[reportArgumentType]


def _label(value: Any) -> Label:  # noqa: ANN401 - any setting
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
