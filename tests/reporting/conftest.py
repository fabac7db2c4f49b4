"""A folder with scores of a small data set and its pages, and one of a training."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from medgan.app.run import Run
from medgan.core.config import build
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.manifest import Case, Manifest, Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import with_health
from medgan.reporting import slices
from medgan.reporting.sample_grid import sample_grid
from medgan.reporting.site import write_report
from medgan.workflows.score import score_cases
from tests.kit.data_sets import tiny_config, write_folder
from tests.kit.models import make_model
from tests.kit.pages import EVIL, WITHOUT_PAGE
from tests.kit.volumes import AFFINE, SIZE, ball

SECRET = "/home/mustermann/scans"


class Scored(NamedTuple):
    """Where it lies, the page to open, and the rows of the table."""

    folder: Path
    page: Path
    rows: list[dict[str, Any]]


@pytest.fixture(autouse=True)
def full_size(monkeypatch):
    """Here pictures are looked at; other tests draw them small."""
    monkeypatch.setattr(slices, "DPI", 110)


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


@pytest.fixture
def training(tmp_path) -> Path:
    """A training under way: forty steps, fifteen evaluations."""
    config = tiny_config(tmp_path, f"data.source={SECRET}", "data.conditions={age: continuous}")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    rows = [{"volumes_seen": 4 * n, "critic/loss": 1 / n, "generator/critic": 0.5} for n in
            range(1, 41)]  # fmt: skip
    rows += [{"volumes_seen": 160, "samples/kernel_distance": 0.25}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scan = np.zeros((1, 8, 8, 8), np.float32)
    sample_grid(tmp_path / "samples" / "000000010.png", scan, scan, scan)
    picture = (tmp_path / "samples" / "000000010.png").read_bytes()
    for n in range(2, 16):
        (tmp_path / "samples" / f"{10 * n:09d}.png").write_bytes(picture)
    cases = [
        Case(f"c-{n}", f"s-{n // 2}", {"image": f"{SECRET}/{n}.nii.gz"}, None, {"image": str(n)},
             None, (90 + n, 80, 70), (2.0, 2.0, 2.0), (), {"age": str(20 + n), "name": "Erika"},
             True, ("train", "calibration", "test")[n % 3])
        for n in range(9)
    ]  # fmt: skip
    refusals = (Refusal("c-9", "E_READ", "cut off", "copy it again"),)
    Manifest(tuple(cases), refusals).save(tmp_path / "manifest.json")
    return tmp_path
