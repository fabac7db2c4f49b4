"""Which synthetic scans a training set lacks: how many, of which category, and in which shard."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medgan.core.config import AugmentConfig, Condition
from medgan.core.errors import ConfigError
from medgan.data.conditions import count_categories, lacking
from medgan.data.manifest import Case

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One synthetic scan that is wanted.

    Attributes:
        number: its place, from 0; its first candidate is that number of the seed.
        conditions: what it is asked for.
    """

    number: int
    conditions: dict[str, str]


def make_requests(
    cases: Sequence[Case],
    known: Sequence[Condition],
    settings: AugmentConfig,
    fixed: Mapping[str, str],
) -> list[Request]:
    """What is wanted: first what balances the categories, then the rest of the ratio.

    Args:
        cases: the real training scans.
        known: the model's conditions.
        settings: `ratio` and `balance`.
        fixed: values of other conditions.

    Returns:
        In order; those of a larger ratio begin with those of a smaller one.

    Raises:
        ConfigError: E_CONDITION when `balance` is no categorical condition of the model, has a
            fixed value too, or no training scan has a value.
    """
    wanted: list[dict[str, str]] = []
    values: list[str] = []
    if settings.balance:
        not_fixed(settings.balance, fixed)
        counts = _categories(cases, known, settings.balance)
        values = list(counts)
        wanted = [
            {**fixed, settings.balance: value}
            for value, n in lacking(counts).items()
            for _ in range(n)
        ]
    rest = round(settings.ratio * len(cases)) - len(wanted)
    for number in range(rest):
        more = {settings.balance: values[number % len(values)]} if values else {}
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
        log.warning("%d training scans have no %s: they are balanced with none", without, name)
    if len(counts) == 1:
        log.warning("all training scans that have a %s are of one category: there is nothing to "
                    "balance", name)  # fmt: skip
    return counts


def not_fixed(balance: str, fixed: Mapping[str, str]) -> None:
    """Refuses to balance what is to have one value.

    Raises:
        ConfigError: E_CONDITION.
    """
    if balance in fixed:
        raise ConfigError(
            "E_CONDITION", balance, "is to be balanced and to have one value", "leave one out"
        )


def of_shard(requests: Sequence[Request], shard: str) -> list[Request]:
    """The requests that fall to a shard such as 2/4: every fourth, from the second on.

    Raises:
        ConfigError: E_VALUE.
    """
    if not shard:
        return list(requests)
    place, parts = (int(text) for text in shard.split("/"))
    if not 1 <= place <= parts:
        raise ConfigError("E_VALUE", "augment.shard", f"no part {shard}", "give 1/4 to 4/4")
    return list(requests[place - 1 :: parts])
