import json

import pytest
import yaml

from medgan.app import others
from medgan.app.others import JSON, PAGE, PLOT, compare_with_others, table
from medgan.core.errors import ConfigError, DataError
from medgan.studies.speed.turns import measured
from tests.kit.data_sets import TINY, write_folder

LIGHT = ("medgan", "f-AnoGAN", "plain GAN", "TorchIO queue")
"""Programs that need neither much time nor a long import."""


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"extends": "train", "config": TINY}))
    return str(path)


def light(contenders, turns, device):
    """The rows of some programs; TorchIO counts as missing."""

    def missing():
        raise ModuleNotFoundError("no", name="torchio<script>")

    chosen = [one for one in contenders if one.name in LIGHT]
    for one in chosen:
        if one.name == "TorchIO queue":
            object.__setattr__(one, "begin", missing)
    return measured(chosen, turns, device)


def test_phantoms_are_measured_and_what_is_not_installed_is_named(preset, tmp_path, monkeypatch):
    monkeypatch.setattr(others, "measured", light)
    found = compare_with_others(tmp_path / "out", preset, scans=8, turns=1, device="cpu")
    assert json.loads((tmp_path / "out" / JSON).read_text()) == found
    assert (found["data"], found["scans"], found["shape"]) == ("phantoms", 8, [16, 16, 16])
    rows = [row for section in found["sections"] for row in section["rows"]]
    assert [row["name"] for row in rows] == [
        "medgan", "plain GAN", *["medgan", "TorchIO queue"] * 2, "medgan", "f-AnoGAN",
    ]  # fmt: skip
    assert all(row["ratio"]["value"] > 0 for row in rows if "absent" not in row)
    page = (tmp_path / "out" / PAGE).read_text()
    assert "torchio&lt;script&gt; is not installed" in page
    assert f'src="{PLOT}"' in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [PAGE, JSON, PLOT]
    assert found["table"].count("not measured") == 2


def test_scans_are_taken_that_are_given(preset, tmp_path, monkeypatch):
    monkeypatch.setattr(others, "measured", lambda *_: [])
    monkeypatch.setattr(others, "plot_ratios", lambda *_: None)
    folder = write_folder(tmp_path / "scans", 10)
    found = compare_with_others(tmp_path / "out", preset, str(folder), scans=9, device="cpu")
    assert (found["data"], found["scans"], found["spacing"]) == ("given scans", 9, [2, 2, 2])
    with pytest.raises(DataError, match="E_SPLIT"):
        compare_with_others(tmp_path / "out", preset, str(folder), scans=4, device="cpu")


def test_a_preset_without_a_generator_of_whole_scans_is_refused(tmp_path):
    for name in ("restoration", "translate_mr_ct"):
        with pytest.raises(ConfigError, match="E_USAGE"):
            compare_with_others(tmp_path, name, device="cpu")


def test_ratios_come_first_in_the_table():
    ratio = {"value": 2.5, "low": 2, "high": 3}
    row = {"name": "x", "ratio": ratio, "milliseconds": 4.0, "processor_milliseconds": 8.0}
    last = table([{"title": "Loader", "rows": [row, {"name": "y", "absent": "no"}]}]).splitlines()
    assert last[2] == "| Loader | x | 2.5 (2 to 3) | 4 | 8 |  |"
    assert last[3] == "|  | y | not measured |  |  |  |"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_a_whole_tiny_comparison(preset, tmp_path, monkeypatch):
    monkeypatch.setattr("medgan.studies.speed.scoring.SIZE", 64)
    found = compare_with_others(tmp_path / "out", preset, scans=8, turns=1, device="cpu")
    assert [len(section["rows"]) for section in found["sections"]] == [5, 4, 4, 4]
    for section in found["sections"]:
        for row in section["rows"]:
            assert ("absent" in row) != (row.get("milliseconds", 0) > 0)
