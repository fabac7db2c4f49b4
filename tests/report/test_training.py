import json
import re

import numpy as np
import pytest
import yaml

from medgan.data.manifest import Case, Manifest, Refusal
from medgan.errors import EnvironmentFailure
from medgan.pictures import sample_grid
from medgan.report import training
from medgan.report.training import MOST_LOOKS, TrainingPage, write_training_page
from tests.builders import tiny_config

SECRET = "/home/mustermann/scans"


@pytest.fixture
def folder(tmp_path):
    """A training under way: forty steps, fifteen looks."""
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
        Case(f"c-{n}", f"s-{n // 2}", f"{SECRET}/{n}.nii.gz", None, str(n), None, (90 + n, 80, 70),
             (2.0, 2.0, 2.0), (), {"age": str(20 + n), "name": "Erika"}, True,
             ("train", "calibration", "test")[n % 3])
        for n in range(9)
    ]  # fmt: skip
    refusals = (Refusal("c-9", "E_READ", "cut off", "copy it again"),)
    Manifest(tuple(cases), refusals).save(tmp_path / "manifest.json")
    return tmp_path


def test_the_page_shows_every_figure_the_settings_and_the_data(folder):
    assert write_training_page(folder)
    text = (folder / "report" / "training.html").read_text()
    for title in ("Samples over time", "Discriminator of images", "Data card", "Configuration"):
        assert f"<h2>{title}</h2>" in text
    assert text.count('<svg class="plot"') == 3
    assert "from 1 at 4 to 0.025 at 160 volumes seen" in text
    assert "160 volumes seen; the training has not ended" in text
    assert "9 of 5 subjects" in text
    assert "20 to 28, median 24; known for 9 scans" in text
    assert "90 to 98 x 80 x 70" in text
    assert "1 files: E_READ 1" in text
    assert re.search(r"<dt>volumes</dt><dd><strong>16</strong>", text)


def test_no_path_and_no_covariate_that_was_not_asked_for_is_on_the_page(folder):
    write_training_page(folder)
    text = (folder / "report" / "training.html").read_text()
    for secret in ("mustermann", "Erika", str(folder), "source"):
        assert secret not in text


def test_looks_are_spread_over_the_training_and_forgotten_with_it(folder):
    write_training_page(folder)
    beside = folder / "report" / "samples"
    shown = sorted(int(path.stem) for path in beside.glob("*.png"))
    assert len(shown) == MOST_LOOKS
    assert (shown[0], shown[-1]) == (10, 150)
    for path in (folder / "samples").glob("*.png"):
        if int(path.stem) > 30:
            path.unlink()
    write_training_page(folder)
    assert sorted(int(path.stem) for path in beside.glob("*.png")) == [10, 20, 30]
    text = (folder / "report" / "training.html").read_text()
    assert len(re.findall(r'<img src="samples/\d+.png"', text)) == 3


def test_the_page_follows_a_training_and_never_ends_it(folder, monkeypatch, caplog):
    page = TrainingPage(folder)
    page.picture(folder / "samples" / "000000150.png")
    assert (folder / "report" / "training.html").is_file()

    def full(*_):
        raise EnvironmentFailure("E_DISK", "training.html", "not written", "free some space")

    monkeypatch.setattr(training, "write_atomic", full)
    page.picture(folder / "samples" / "000000150.png")
    assert "E_DISK" in caplog.text


def test_without_a_training_there_is_no_page(tmp_path):
    assert not write_training_page(tmp_path)
    assert not (tmp_path / "report").exists()
