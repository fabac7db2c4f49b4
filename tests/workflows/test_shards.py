"""Interrupted and divided runs leave what one whole run leaves, byte for byte."""

import csv
import json
import shutil

import numpy as np
import pytest

from medgan.core.volume import Volume
from medgan.workflows import scan_score
from tests.kit.clock import jumping_clock
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.folder_contents import contents
from tests.kit.models import BY_AGE_AND_SEX, make_model, save_calibrated
from tests.kit.volumes import AFFINE, ball


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_calibrated(tmp_path_factory.mktemp("model"), BY_AGE_AND_SEX)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Five scans, one of them broken, and one of them twice."""
    folder = write_folder(tmp_path_factory.mktemp("scans") / "in", 5, labels=False)
    (folder / "person-03.nii.gz").write_bytes(b"none")
    shutil.copy(folder / "person-00.nii.gz", folder / "person-99.nii.gz")
    return folder


@pytest.fixture(autouse=True)
def same_site(tmp_path_factory, monkeypatch):
    """The site's secret that the whole run was made with."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "home-of-shards"))


@pytest.fixture(scope="module")
def whole(model, scans, tmp_path_factory):
    out, home = tmp_path_factory.mktemp("whole") / "out", pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "home-of-shards"))
    assert score(model, scans, out).returncode == 3
    home.undo()
    return out


def score(model, scans, out, *more):
    return inside("score", model, scans, "-o", out, "--set", "score.false_alarms=0.3", *more)


def test_shards_merge_into_what_one_run_leaves(model, scans, whole, tmp_path, caplog):
    out = tmp_path / "out"
    last = [score(model, scans, out, "--shard", f"{number}/3") for number in (2, 3)]
    assert all("the last one makes the tables" in done.stdout for done in last)
    missing = inside("merge", out)
    assert missing.returncode == 3
    assert "E_SHARD shards/: 1 of 3 not done" in missing.stderr
    done = score(model, scans, out, "--shard", "1/3", "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["score"]["scans"] == 4
    merged, expected = contents(out), contents(whole)
    assert merged.keys() == expected.keys()
    assert [name for name, data in expected.items() if merged[name] != data] == []
    assert not (out / "shards").exists()
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["case"] for row in rows}) == 4
    assert any(row["q_value"] != row["p_value"] for row in rows)  # they are of all shards
    caplog.clear()
    score(model, scans, out)  # goes on with what was merged
    assert "4 of 4 were done by an earlier run" in caplog.text
    assert contents(out) == merged


@pytest.mark.fault(41)
def test_a_run_that_was_stopped_goes_on_and_scores_nothing_twice(
    model, scans, whole, tmp_path, monkeypatch, measured
):
    out, inner, scored = tmp_path / "out", scan_score.score_case, []

    def stops(model, case, *arguments):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(case.case)
        return inner(model, case, *arguments)

    monkeypatch.setattr(scan_score, "score_case", stops)
    assert score(model, scans, out).returncode == 75
    rest = []
    monkeypatch.setattr(
        scan_score, "score_case", lambda *given: (rest.append(given[1].case), inner(*given))[1]
    )
    assert score(model, scans, out).returncode == 3
    assert len(scored) == len(rest) == 2
    assert not set(scored) & set(rest)
    found = contents(out)
    assert found == contents(whole)
    measured(f"stopped after {len(scored)} of {len(scored + rest)} scans: {len(found)} files alike")


@pytest.mark.fault(42)
def test_a_clock_that_jumps_by_a_day_changes_no_score(
    model, scans, whole, tmp_path, monkeypatch, measured
):
    asked = jumping_clock(monkeypatch)
    out = tmp_path / "out"
    assert score(model, scans, out).returncode == 3
    assert contents(out) == contents(whole)
    assert sum(asked) > 0
    measured(
        f"scores the same byte for byte after {len(asked)} looks at a clock that jumps by a day"
    )


@pytest.mark.fault(41)
def test_another_calibration_scores_again(model, scans, tmp_path, caplog):
    own = shutil.copytree(model, tmp_path / "model")
    out, random = tmp_path / "out", np.random.default_rng(7)
    score(own, scans, out)
    before = contents(out)["scores.csv"]
    changed = make_model(BY_AGE_AND_SEX)
    changed.calibrate([Volume(ball(random).astype(np.float32), AFFINE) for _ in range(19)])
    changed.save(own)
    score(own, scans, out)
    assert "done by an earlier run" not in caplog.text
    assert contents(out)["scores.csv"] != before


@pytest.mark.parametrize("verb", ["generate"])
def test_shards_of_synthetic_scans_are_the_set_without_shards(model, verb, tmp_path):
    given = [verb, model, "-n", 5, "--seed", 3, "--set", "age=40"]
    assert inside(*given, "-o", tmp_path / "whole").returncode == 0
    for number in (1, 2):
        done = inside(*given, "-o", tmp_path / "out", "--shard", f"{number}/2")
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (tmp_path / "out" / "dataset.json").is_file()


def test_shards_that_do_not_belong_together_are_refused(model, scans, tmp_path):
    out = tmp_path / "out"
    for shard in ("1/2", "1/3"):
        score(model, scans, out, "--shard", shard)
    assert "shards of 2 and of 3 are there" in inside("merge", out).stderr
    shutil.rmtree(out / "shards" / "1-of-3")
    done = score(model, scans, out, "--shard", "2/2", "--set", "score.smallest_mm3=90")
    assert "E_SHARD" in done.stderr
    assert "were asked for different things" in done.stderr
    assert not (out / "scores.csv").exists()


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b"])
def test_a_share_that_is_none_is_refused(model, scans, tmp_path, shard):
    done = score(model, scans, tmp_path / "out", "--shard", shard)
    assert done.returncode == 2
    assert "executor.shard" in done.stderr


def test_what_cannot_be_divided_says_so(model, scans, tmp_path):
    ways = {
        "data.splits=''": "splits are drawn among all scans",
        "score.layout=bids": "numbers the scans of all shards",
    }
    for number, (setting, why) in enumerate(ways.items()):
        done = score(model, scans, tmp_path / f"{number}", "--shard", "1/2", "--set", setting)
        assert why in done.stderr, setting
    shutil.rmtree(tmp_path / "0")
    out = inside("run", "demo", "-o", tmp_path / "demo", "--set", "executor.shard=1/2")
    assert "works on all scans at once" in out.stderr
