"""Groups of subjects by age and sex, as tables of false alarms name them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from medgan.data.conditions import Value, is_known

BANDS = (40, 60, 80)
"""Ages in years between groups."""
ALL = "all"
"""The group of everybody."""
T = TypeVar("T")


def age_of(covariates: Mapping[str, Value]) -> float | None:
    """Years, from the column age; None where it is unknown or no finite number."""
    known = {name.lower(): value for name, value in covariates.items()}
    try:
        years = float(str(known.get("age", "")))
    except ValueError:
        return None
    return years if math.isfinite(years) else None


def sex_of(covariates: Mapping[str, Value]) -> str:
    """As the column sex or gender has it; empty where it is unknown."""
    known = {name.lower(): value for name, value in covariates.items() if is_known(value)}
    return str(known.get("sex", known.get("gender", ""))).strip()


def groups_of(covariates: Mapping[str, Value]) -> list[str]:
    """Groups of sex and age that a subject belongs to, as far as they are known.

    Example:
        >>> groups_of({"age": "64", "sex": "F"})
        ['sex F', 'age 60 to 79']
    """
    age, sex = age_of(covariates), sex_of(covariates)
    found = [f"sex {sex}"] if sex else []
    if age is not None:
        number = int(np.searchsorted(BANDS, age, side="right"))
        if number == 0:
            name = f"below {BANDS[0]}"
        elif number == len(BANDS):
            name = f"{BANDS[-1]} and above"
        else:
            name = f"{BANDS[number - 1]} to {BANDS[number] - 1}"
        found.append(f"age {name}")
    return found


def by_group(items: Sequence[T], groups: Callable[[T], Sequence[str]]) -> dict[str, list[T]]:
    """All items under `ALL`, then those of each group, by name.

    Example:
        >>> by_group([1, 2, 3], lambda n: ["odd"] if n % 2 else [])
        {'all': [1, 2, 3], 'odd': [1, 3]}
    """
    names = sorted({name for item in items for name in groups(item)})
    found = {name: [item for item in items if name in groups(item)] for name in names}
    return {ALL: list(items), **found}
