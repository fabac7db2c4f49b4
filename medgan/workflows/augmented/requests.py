"""Requests for synthetic scans: how many, and of which category."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.data.categories import count_categories, lacking
from medgan.data.manifest import Case

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One requested synthetic scan.

    Attributes:
        number: from 0; its first candidate is that number of the seed.
        conditions: requested values.
    """

    number: int
    conditions: dict[str, str]


def make_requests(
    cases: Sequence[Case],
    known: Sequence[Condition],
    ratio: float,
    balance: str,
    fixed: Mapping[str, str],
) -> list[Request]:
    """Requests that balance the categories, then those of the remaining ratio.

    Args:
        cases: the real training scans.
        known: the model's conditions.
        ratio: requests for each training scan.
        balance: condition whose rarer categories come first; empty for none.
        fixed: values of other conditions.

    Returns:
        In order; those of a larger ratio begin with those of a smaller one.

    Raises:
        ConfigError: E_CONDITION when `balance` is no categorical condition of the model, has a
            fixed value too, or no training scan has a value.
    """
    wanted: list[dict[str, str]] = []
    values: list[str] = []
    if balance:
        not_fixed(balance, fixed)
        counts = _categories(cases, known, balance)
        values = list(counts)
        wanted = [
            {**fixed, balance: value} for value, n in lacking(counts).items() for _ in range(n)
        ]
    rest = round(ratio * len(cases)) - len(wanted)
    for number in range(rest):
        more = {balance: values[number % len(values)]} if values else {}
        wanted.append({**fixed, **more})
    return [Request(number, conditions) for number, conditions in enumerate(wanted)]


def _categories(cases: Sequence[Case], known: Sequence[Condition], name: str) -> dict[str, int]:
    categorical = [condition.name for condition in known if condition.kind == "categorical"]
    if name not in categorical:
        raise ConfigError(
            "E_CONDITION", name, "no categorical condition of this model",
            f"it has {', '.join(categorical) or 'none'}",
        )  # fmt: skip
    counts = count_categories(cases, name)
    if not counts:
        raise ConfigError(
            "E_CONDITION", name, "no training scan has a value", "fill the column of the table"
        )
    without = len(cases) - sum(counts.values())
    log.info("%s: %s", name, ", ".join(f"{n} {value}" for value, n in counts.items()))
    if without:
        log.warning("%d training scans have no %s: they are not counted", without, name)
    if len(counts) == 1:
        log.warning("all training scans that have a %s are of one category: nothing to "
                    "balance", name)  # fmt: skip
    return counts


def not_fixed(balance: str, fixed: Mapping[str, str]) -> None:
    """Refuses to balance a condition with a fixed value.

    Raises:
        ConfigError: E_CONDITION.
    """
    if balance in fixed:
        raise ConfigError(
            "E_CONDITION", balance, "cannot be balanced and have a fixed value", "leave one out"
        )
