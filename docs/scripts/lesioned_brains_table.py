"""The tables of a study of lesioned brains: by family, of healthy brains, of the patient.

The means over planted lesions leave out the patient, and intervals are over draws and subjects:
both lesions of a brain are resampled together.

python docs/scripts/lesioned_brains_table.py runs/brains-utility REFERENCE
"""

import json
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float

from medgan.core.tables import markdown_table
from medgan.data.manifest import Case, Manifest
from medgan.evaluation.interval import paired_difference

PATIENT, HEALTHY = "multiple sclerosis", "none"
DICE, OUTSIDE = 0, -1
"""Columns of a cell: Dice, and millilitres that are marked outside of lesions."""


def main(run: Path, reference: str) -> None:
    """Prints both tables as Markdown."""
    protocol = json.loads((run / "utility.json").read_text())["protocol"]
    manifest = Manifest.load(run / "manifest.json")
    cases = [case for split in protocol["tested"] for case in manifest.split(split)]
    paths = sorted((run / "cells").glob("*-0-*.json"))
    arms = [path.stem.split("-", 2)[2] for path in paths]
    found = {arm: values_of(run, arm, protocol["seeds"], len(cases)) for arm in arms}
    lesions = np.array([case.covariates["lesion"] for case in cases])
    families = sorted(set(lesions) - {PATIENT, HEALTHY})
    by_subject = {arm: planted(cases, lesions, values) for arm, values in found.items()}
    rows, patient = [], PATIENT in lesions
    for arm, values in found.items():
        draws = np.nanmean(by_subject[arm], axis=(1, 2))
        row = [arm, f"{draws.mean():.3f} ({', '.join(f'{draw:.3f}' for draw in draws)})"]
        row.append(difference(by_subject[reference], by_subject[arm]) if arm != reference else "")
        row += [f"{values[:, lesions == family, DICE].mean():.3f}" for family in families]
        row.append(f"{values[:, lesions == HEALTHY, OUTSIDE].mean():.2f}")
        if patient:
            dice = values[:, lesions == PATIENT, DICE][:, 0]
            row.append(f"{dice.mean():.3f} ({', '.join(f'{one:.3f}' for one in dice)})")
        rows.append(row)
    head = ["trained on", "Dice of planted lesions", f"minus {reference} (95%)", *families]
    head += ["ml marked in a healthy brain", *["Dice of the patient"] * patient]
    print(markdown_table(head, rows))


def values_of(run: Path, arm: str, seeds: int, count: int) -> Float[np.ndarray, "D N K"]:
    """Values of all test scans in every draw."""
    folder = run / "cells"
    cells = [json.loads(next(folder.glob(f"*-{n}-{arm}.json")).read_text()) for n in range(seeds)]
    values = np.array([cell["values"] for cell in cells], dtype=float)
    assert values.shape[1] == count, "every scan of the manifest was tested"
    return values


def planted(
    cases: list[Case], lesions: np.ndarray, values: Float[np.ndarray, "D N K"]
) -> Float[np.ndarray, "D S M"]:
    """Dice of the planted lesions of each subject; not a number where one has fewer than others."""
    of: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        if lesions[number] not in (PATIENT, HEALTHY):
            of.setdefault(case.subject, []).append(number)
    most = max(len(numbers) for numbers in of.values())
    made = np.full((len(values), len(of), most), np.nan)
    for row, numbers in enumerate(of.values()):
        made[:, row, : len(numbers)] = values[:, numbers, DICE]
    return made


def difference(first: np.ndarray, second: np.ndarray) -> str:
    """Second minus first, with its interval over draws and subjects."""
    found = paired_difference(first, second, lambda rows: float(np.nanmean(rows))).interval
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
