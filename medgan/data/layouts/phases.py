"""Files that are the phases of one sequence by their names."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from medgan.data.layouts.files import stem
from medgan.data.layouts.listed import Listed, subject_of

PHASE, TIME = "phase", "time"
"""Covariates of a phase: its place as a share of the sequence, from 0 to below 1; its seconds."""
_NUMBERED = re.compile(
    r"(?:^|(?<=[_\-. ]))(?:(?:phase|frame|gate|bin)[_\- ]?(\d+)|t(\d{2,}))(?=$|[_\-. %])",
    re.IGNORECASE,
)
"""`phase_00`, `frame12`, `gate3`, `bin-5` and `t00`; t1 and t2 are contrasts."""


def as_sequences(listing: list[Listed], flat: bool) -> list[Listed]:
    """The scans, with phase and sequence where files of one folder differ by such a number alone.

    Args:
        listing: of loose files.
        flat: whether all of them lie in one folder, where names alone say whose they are.
    """
    found: dict[tuple[Path, str], dict[int, int]] = defaultdict(dict)
    twice: set[tuple[Path, str]] = set()
    for position, one in enumerate(listing):
        name = stem(one.image)
        if match := _NUMBERED.search(name):
            group = one.image.parent, name[: match.start()] + name[match.end() :]
            number = int(match[1] or match[2])
            twice |= {group} if number in found[group] else set()
            found[group][number] = position
    phases = list(listing)
    for (folder, rest), numbers in found.items():
        if len(numbers) < 2 or (folder, rest) in twice:
            continue
        name = rest.strip("_-. %") or folder.name
        for place, number in enumerate(sorted(numbers)):
            one = listing[numbers[number]]
            within = folder.relative_to(one.root) if one.root else folder
            phases[numbers[number]] = replace(
                one, sequence=str(within / name), subject=subject_of(name) if flat else one.subject,
                covariates=(*one.covariates, (PHASE, f"{place / len(numbers):.6g}")),
            )  # fmt: skip
    return phases
