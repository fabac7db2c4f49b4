"""How often the categories of a covariate occur."""

from collections import Counter
from collections.abc import Mapping, Sequence

from medgan.data.conditions import covariate_of, is_known
from medgan.data.manifest import Case


def lacking(counts: Mapping[str, int]) -> dict[str, int]:
    """How many scans each category lacks to be as many as the largest; full ones are left out."""
    most = max(counts.values(), default=0)
    return {value: most - n for value, n in sorted(counts.items()) if n < most}


def count_categories(cases: Sequence[Case], name: str) -> dict[str, int]:
    """How many cases each category of a covariate has; unknown ones are not counted."""
    found = (covariate_of(case, name) for case in cases)
    return dict(sorted(Counter(str(value) for value in found if is_known(value)).items()))
