"""A scan is opened and checked once, and what is wrong with one stops no other."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan.app.pipeline import run_pipeline
from medgan.core.volume import Volume
from medgan.data.batches import PreparedVolumes
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import ReadScans
from medgan.model.model import Model
from tests.kit.command_line import inside
from tests.kit.models import TWO_LABELS, make_model
from tests.kit.volumes import ball

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
opened: Counter[str] | None = None


def _count(event: str, arguments: tuple) -> None:
    if opened is not None and event == "open" and isinstance(arguments[0], str):
        opened[arguments[0]] += 1


sys.addaudithook(_count)


@pytest.fixture
def opens():
    """How often each file is opened while the test runs, by whatever library."""
    global opened
    opened = Counter()
    yield opened
    opened = None


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    rng = np.random.default_rng(1)
    model = make_model()
    model.calibrate([Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(6)])
    folder = tmp_path_factory.mktemp("model")
    model.save(folder)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of three scans with label maps."""
    rng, rows = np.random.default_rng(0), ["image,label"]
    for name in ("one", "two", "three"):
        data = ball(rng).astype(np.float32)
        Volume(data, AFFINE).save(tmp_path / "scans" / f"{name}.nii.gz")
        label = 3 * (data > data.mean()).astype(np.uint8)
        Volume(label, AFFINE).save(tmp_path / "scans" / f"{name}_label.nii.gz")
        rows.append(f"{name}.nii.gz,{name}_label.nii.gz")
    path = tmp_path / "scans" / "table.csv"
    path.write_text("\n".join(rows))
    return path


def test_a_scan_is_opened_once_from_the_command_line_to_its_map_and_page(
    model: Path, table: Path, tmp_path: Path, opens: Counter[str]
) -> None:
    done = inside("score", model, table, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "maps").glob("*.nii.gz"))) == 3
    assert len(list((tmp_path / "out" / "report" / "scans").glob("*.html"))) == 3
    scans = {Path(name).name: n for name, n in opens.items() if Path(name).parent == table.parent}
    assert {name: n for name, n in scans.items() if name.endswith(".nii.gz")} == {
        f"{name}{kind}.nii.gz": 1 for name in ("one", "two", "three") for kind in ("", "_label")
    }


@pytest.mark.parametrize(("limit", "times"), [(None, 1), (0, 2)])
def test_a_scan_is_opened_once_on_its_way_into_the_cache_of_a_training(
    table: Path, tmp_path: Path, opens: Counter[str], limit: int | None, times: int
) -> None:
    scans = ReadScans(limit)
    manifest, _ = index(table, Pseudonyms(b"salt"), keep=scans.keep)
    volumes = PreparedVolumes(manifest.cases, TWO_LABELS, tmp_path / "cache", scans.read)
    assert volumes.warm() == []
    found = [n for name, n in opens.items() if name.endswith(".nii.gz")]
    assert found == [times] * 6


def test_what_is_kept_is_given_back_when_it_is_cleared(table: Path) -> None:
    scans = ReadScans()
    manifest, _ = index(table, Pseudonyms(b"salt"), keep=scans.keep)
    kept = scans.read(manifest.cases[0])
    assert scans.read(manifest.cases[0]) is kept
    scans.clear()
    assert scans.read(manifest.cases[0]) is not kept


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Sound scans, and such as once stopped all: other units, huge sizes, a mask, odd endings."""
    rng, folder = np.random.default_rng(0), tmp_path / "cohort"
    folder.mkdir()

    def write(name: str, affine: np.ndarray, unit: str = "mm") -> None:
        image = nibabel.Nifti1Image(ball(rng).astype(np.int16), affine)
        image.header.set_xyzt_units(unit)
        (folder / name).write_bytes(image.to_bytes())

    write("sound.nii", AFFINE)
    write("micron.nii", np.diag([2000.0, 2000.0, 2000.0, 1.0]), "micron")
    write("metres.nii", np.diag([0.002, 0.002, 0.002, 1.0]), "meter")
    write("called-metres.nii", AFFINE, "meter")
    write("huge.nii", np.diag([99.0, 99.0, 99.0, 1.0]))
    write("capitals.Nii", AFFINE)
    mask = ball(rng) > 60  # constant once its foreground is scaled
    Volume(mask.astype(np.float32), AFFINE).save(folder / "mask.nii.gz")
    return folder


def test_units_sizes_and_endings_of_one_scan_stop_no_other(
    model: Path, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = inside("score", model, cohort, "-o", out, "--set", "report.scans=0")
    assert done.returncode == 3
    with (out / "refused.csv").open(newline="") as file:
        codes = sorted(row["code"] for row in csv.DictReader(file))
    assert codes == ["E_CONTRAST", "E_SIZE", "E_SPACING"]
    rows = json.loads((out / "scores.json").read_text())["scans"]
    assert len(rows) == 4
    assert all(np.isfinite(row["score"]) for row in rows)


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    ("fault", "code"),
    [(ValueError("/data/DOE.nii"), "E_SCAN"), (MemoryError(), "E_MEMORY"),
     (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "E_MEMORY")],
)  # fmt: skip
def test_any_fault_in_one_scan_is_its_own(
    model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault, code: str
) -> None:
    score, scored = Model.score, []

    def faulty(self, scan, *arguments):
        scored.append(scan)
        if len(scored) == 2:
            raise fault
        return score(self, scan, *arguments)

    monkeypatch.setattr(Model, "score", faulty)
    run = run_pipeline(
        "score", [f"model_uri={model}", f"data.source={table}", f"out={tmp_path / 'out'}"]
    )
    assert len(scored) == 3
    (refusal,) = run.refusals
    assert refusal.code == code
    assert refusal.case.startswith("c-")
    assert "DOE" not in str(refusal)


def test_an_interruption_in_one_scan_stops_all(
    model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self, scan, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "score", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(
            "score", [f"model_uri={model}", f"data.source={table}", f"out={tmp_path / 'out'}"]
        )


def test_a_fault_in_one_calibration_scan_leaves_out_that_scan(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    for number in range(7):
        Volume(ball(rng).astype(np.float32), AFFINE).save(tmp_path / "scans" / f"{number}.nii")
    prepare, seen = Model.prepare, []

    def faulty(self, scan, case="the scan"):
        seen.append(case)
        if len(seen) == 3:
            raise ValueError("of one scan")
        return prepare(self, scan, case)

    monkeypatch.setattr(Model, "prepare", faulty)
    run = run_pipeline(
        "calibrate",
        [f"model_uri={model}", f"data.source={tmp_path / 'scans'}", f"out={tmp_path / 'out'}"],
    )
    assert [refusal.code for refusal in run.refusals] == ["E_SCAN"]
    assert len(run.model().calibration.scores) == 6


def test_a_scan_that_cannot_be_prepared_is_left_out_of_a_training(
    cohort: Path, tmp_path: Path
) -> None:
    manifest, _ = index(cohort, Pseudonyms(b"salt"))
    volumes = PreparedVolumes(manifest.cases, TWO_LABELS, tmp_path / "cache")
    before = len(volumes)
    refusals = volumes.warm()
    assert sorted(refusal.code for refusal in refusals) == ["E_CONTRAST", "E_SIZE"]
    assert len(volumes) == before - 2
    assert not {r.case for r in refusals} & {case.case for case in volumes.cases}
