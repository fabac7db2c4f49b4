"""Covariates as conditions: learned from training scans, encoded for networks, drawn anew."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.data.caption import COLUMNS, check_caption, encode_caption, learn_captions, read_caption
from medgan.data.manifest import Case
from medgan.data.numeric import LEVELS, NUMBERS, coded, learn_numbers

Value = str | int | float | None
UNKNOWN = "unknown"
NOISE = "noise"
"""Name of the condition that is measured in every scan, unless its table has such a column."""
_UNKNOWN = {"", "n/a", "na", "nan", "none", "null", UNKNOWN}
_MOST_VALUES = 64
"""Categories beyond which a column is no condition but a name of each scan."""
_LABEL_VOLUME = re.compile(r"label_(\d+)_mm3")


def learn(
    settings: Mapping[str, Literal["categorical", "continuous", "periodic"]],
    cases: Sequence[Case],
    caption: str = "",
) -> tuple[Condition, ...]:
    """The conditions of a model in order of their names, with what its training scans have of each.

    Only marginals are kept, never the row of a subject.

    Args:
        settings: the covariates to condition on, and of which kind each is.
        cases: the training cases.
        caption: name of the covariate that is a sentence, which comes last; empty without any.

    Raises:
        ConfigError: E_CONDITION for a covariate that no case has, or that is of another kind.
    """
    conditions = []
    kinds = [*sorted(settings.items()), *([(caption, "text")] if caption else [])]
    for name, kind in kinds:
        found = [value for case in cases if is_known(value := covariate_of(case, name))]
        if not found:
            columns = sorted({column for case in cases for column in case.covariates})
            raise _error(
                name, "no training scan has a value",
                f"fill it, or use {_listed([*columns, 'label_1_mm3'])} or noise in data.conditions",
            )  # fmt: skip
        if kind == "text":
            conditions.append(learn_captions(name, [str(value) for value in found]))
        elif kind == "categorical":
            conditions.append(_learn_categories(name, [str(value) for value in found]))
        else:
            numbers = [number_of(name, value) for value in found]
            conditions.append(learn_numbers(name, kind, numbers, cases))
    return tuple(conditions)


def _learn_categories(name: str, found: Sequence[str]) -> Condition:
    counts = Counter(found)
    if len(counts) > _MOST_VALUES or _LABEL_VOLUME.fullmatch(name):
        raise _error(name, f"{len(counts)} categories", "make it continuous or leave it out")
    values = sorted(counts)
    shares = [counts[value] / len(found) for value in values]
    return Condition(name=name, kind="categorical", values=tuple(values), shares=tuple(shares))


def covariate_of(case: Case, name: str) -> Value:
    """What is known of a case: from its table, or measured.

    `label_<value>_mm3` is the volume of a label in mm^3; a case without label map has none.
    `noise` is the standard deviation of the scan's noise as a share of its range (`noise_level`).
    """
    measured = _LABEL_VOLUME.fullmatch(name)
    if name == NOISE and name not in case.covariates:
        return case.noise
    if name in case.covariates or not measured:
        return case.covariates.get(name)
    if case.label is None or len(case.labels) != len(case.label_mm3):
        return None
    return dict(zip(case.labels, case.label_mm3, strict=True)).get(int(measured[1]), 0.0)


def covariates_of(case: Case, conditions: Iterable[Condition]) -> dict[str, Value]:
    """What is known of a case, by the name of each condition."""
    return {condition.name: covariate_of(case, condition.name) for condition in conditions}


def widths(conditions: Sequence[Condition]) -> tuple[int, ...]:
    """Columns that each condition takes in an encoded one."""
    fixed = {**dict.fromkeys(NUMBERS, 2), "text": COLUMNS}
    return tuple(fixed.get(c.kind, len(c.values)) for c in conditions)


def width(conditions: Sequence[Condition]) -> int:
    """Length of an encoded condition."""
    return sum(widths(conditions))


def encode(
    conditions: Sequence[Condition], covariates: Mapping[str, Value]
) -> Float[np.ndarray, " D"]:
    """The condition of a scan as networks read it; an unknown value is all zeros.

    A category is one-hot; one that the model never saw is unknown to it. A number is as `coded`
    gives it. A caption has a row for each word.

    Args:
        conditions: the model's.
        covariates: values by name; missing, None, empty, n/a or unknown is unknown.

    Raises:
        ConfigError: E_CONDITION for a continuous value that is no number.
    """
    encoded = np.zeros(width(conditions), np.float32)
    start = 0
    for condition, columns in zip(conditions, widths(conditions), strict=True):
        value = covariates.get(condition.name)
        if is_known(value) and condition.kind in NUMBERS:
            encoded[start : start + 2] = coded(condition, number_of(condition.name, value))
        elif is_known(value) and condition.kind == "text":
            encoded[start : start + columns] = encode_caption(str(value), condition)
        elif is_known(value) and str(value) in condition.values:
            encoded[start + condition.values.index(str(value))] = 1.0
        start += columns
    return encoded


def understood(
    conditions: Sequence[Condition], covariates: Mapping[str, Value]
) -> dict[str, Value]:
    """What a model makes of covariates: a value or None, unknown, by the name of each condition.

    Args:
        conditions: the model's.
        covariates: values by name; others than the model's are left out, and a category that it
            never saw is unknown to it, as is a word of a caption.

    Raises:
        ConfigError: E_CONDITION for a continuous value that is no number.
    """
    result: dict[str, Value] = {}
    for condition in conditions:
        name, value = condition.name, covariates.get(condition.name)
        result[name] = None
        if is_known(value) and condition.kind in NUMBERS:
            result[name] = number_of(name, value)
        elif is_known(value) and condition.kind == "text":
            result[name] = " ".join(read_caption(str(value), condition).words) or None
        elif is_known(value) and str(value) in condition.values:
            result[name] = str(value)
    return result


def between(a: Mapping[str, Value], b: Mapping[str, Value], share: float) -> dict[str, Value]:
    """The covariates between two scans: numbers linearly, categories where both agree.

    Args:
        a: where the way begins, as `understood` gives it.
        b: where it ends, of the same model.
        share: of the way from a to b; 0 and 1 give what is known of the ends.
    """
    if share in (0.0, 1.0):
        return dict(b if share else a)
    result: dict[str, Value] = {}
    for name, start in a.items():
        end = b[name]
        result[name] = start if start == end else None
        if isinstance(start, float) and isinstance(end, float):
            result[name] = (1 - share) * start + share * end
    return result


def check(conditions: Sequence[Condition], wanted: Mapping[str, Value]) -> list[str]:
    """Refuses what a model cannot be asked for.

    Args:
        conditions: the model's.
        wanted: values by name.

    Returns:
        A remark on each number outside the range that was trained on, and on words of a caption
        that are read as others.

    Raises:
        ConfigError: E_CONDITION for a name or a category that the model does not know, or for
            text where a number belongs; E_TEXT for a caption that is not understood.
    """
    known = {condition.name: condition for condition in conditions}
    remarks = []
    for name, value in wanted.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise _error(name, "no condition of this model", f"{hint}it has {_listed(known)}")
        condition = known[name]
        if not is_known(value):
            continue
        if condition.kind == "categorical" and str(value) not in condition.values:
            raise _error(
                name, f"no category {value}", f"use {_listed([*condition.values, UNKNOWN])}"
            )
        if condition.kind == "text":
            remarks += check_caption(str(value), condition)
        if condition.kind in NUMBERS:
            number, (low, *_, high) = number_of(name, value), condition.quantiles
            if condition.kind == "continuous" and not low <= number <= high:
                remarks.append(f"{name} {value} is outside the {low:g} to {high:g} trained on")
    return remarks


def draw(
    conditions: Sequence[Condition], fixed: Mapping[str, Value], rng: np.random.Generator
) -> dict[str, Value]:
    """What a synthetic scan is generated by: as asked, the rest as the training scans had it.

    A caption that is not asked for is unknown: those of the training scans are not kept.

    Each condition is drawn on its own. As many numbers are taken from `rng` whatever is fixed,
    so that fixing one condition changes no other.

    Args:
        conditions: the model's.
        fixed: values by name; `unknown` leaves one unknown.
        rng: source of what is not fixed.

    Returns:
        Text, number or None (unknown) by the name of each condition.

    Raises:
        ConfigError: E_CONDITION, as `check`.
    """
    check(conditions, fixed)
    drawn: dict[str, Value] = {}
    for condition, level in zip(conditions, rng.random(len(conditions)), strict=True):
        name = condition.name
        if name in fixed:
            value = fixed[name] if is_known(fixed[name]) else None
            if value is not None:
                value = number_of(name, value) if condition.kind in NUMBERS else str(value)
        elif condition.kind == "text":
            value = None
        elif condition.kind == "categorical":
            bounds = np.cumsum(condition.shares)[:-1]
            value = condition.values[int(np.searchsorted(bounds, level, side="right"))]
        else:
            value = float(f"{np.interp(level, LEVELS, condition.quantiles):.6g}")
        drawn[name] = value
    return drawn


def is_known(value: Value) -> bool:
    """Whether it is more than nothing, n/a or a word for unknown."""
    return value is not None and str(value).strip().lower() not in _UNKNOWN


def number_of(name: str, value: Value) -> float:
    """The value of a continuous covariate.

    Raises:
        ConfigError: E_CONDITION where it is no number.
    """
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise _error(
            name,
            f"{value!r} is not a number",
            "give a number with a decimal point, or n/a where unknown",
        )
    return number


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _error(name: str, what: str, remedy: str) -> ConfigError:
    return ConfigError("E_CONDITION", name, what, remedy)
