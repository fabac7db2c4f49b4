"""A folder with scores of a small cohort, and its pages."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from medgan.cohort import score_cases
from medgan.config import build
from medgan.data.index import index
from medgan.data.manifest import Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import with_health
from medgan.report.site import write_report
from medgan.run import Run
from medgan.volume import Volume
from tests.builders import SIZE, ball, write_folder
from tests.test_model import make_model

EVIL = 'c-"><img src=x onerror=alert(1)>'
"""A pseudonym that would run if it was not escaped."""
WITHOUT_PAGE = 1
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


class Scored(NamedTuple):
    """Where it lies, the page to open, and the rows of the table."""

    folder: Path
    page: Path
    rows: list[dict[str, Any]]


@pytest.fixture(scope="session")
def scored(tmp_path_factory) -> Scored:
    """Scores of five healthy scans, one with a planted lesion, and one that is not comparable."""
    folder = tmp_path_factory.mktemp("mustermann")
    source = write_folder(folder / "scans", 5)
    rng = np.random.default_rng(7)
    data, mask = ball(rng), np.zeros(SIZE, np.uint8)
    mask[3:7, 3:7, 3:7] = 1
    data[mask > 0] = 90
    Volume(data.astype(np.float32), AFFINE).save(source / "sick.nii.gz")
    Volume(150 - data.astype(np.float32), AFFINE).save(source / "inverted.nii.gz")
    Volume(mask, AFFINE).save(folder / "lesion.nii.gz")
    table = folder / "cohort.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "diagnosis", "lesion_mask"))
        for number in range(5):
            writer.writerow((f"scans/person-{number:02d}.nii.gz", "healthy", ""))
        writer.writerow(("scans/sick.nii.gz", "lesion", "lesion.nii.gz"))
        writer.writerow(("scans/inverted.nii.gz", "healthy", ""))
    manifest, _ = index(table, Pseudonyms(b"x"))
    manifest = with_health(manifest, {"diagnosis": ["healthy"]})
    first, *others = manifest.cases
    manifest = replace(manifest, cases=(replace(first, case=EVIL), *others))
    manifest.save(folder / "manifest.json")
    model = make_model()
    rng = np.random.default_rng(1)
    model.calibrate([Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(20)])
    rows, refusals = score_cases(model, manifest.cases, folder / "scores", health_is_known=True)
    assert not refusals
    run = Run(build({}, [f"out={folder}"]))
    run.refuse([Refusal("c-<b>bold</b>", "E_READ", "cannot be <i>read</i>", "copy it again")])
    return Scored(folder, write_report(folder, len(rows) - WITHOUT_PAGE), rows)
