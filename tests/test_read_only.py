"""Folders that may be read and not written: one line says so, and nothing is half written.

Root may write everywhere: where it runs the tests, the process becomes nobody for a while.
"""

import os
import stat
from contextlib import contextmanager

import pytest
import yaml

from tests.kit.command_line import inside
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import save_calibrated
from tests.kit.nobody import NOBODY, open_folder, without_rights

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def shared():
    """Scans, a model and a pipeline that everybody may read."""
    with open_folder() as place:
        write_folder(place / "scans", 12, labels=False)
        save_calibrated(place / "model")
        config = {**TINY, "train": {**TINY["train"], "volumes": 4, "precision": "fp32"}}
        pipeline = {"steps": ["index", "train", "calibrate"], "config": config}
        (place / "tiny.yaml").write_text(yaml.safe_dump(pipeline))
        yield place


@pytest.fixture
def place(monkeypatch):
    """A folder of the test's own, with a home, that nobody may write to."""
    with open_folder() as own:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(own / "home"))
        yield own


def everything(folder):
    """Files below a folder with their content and rights."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def give(*folders):
    """Makes nobody the owner of folders and all below, where root runs the tests."""
    for folder in folders if os.geteuid() == 0 else ():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


@contextmanager
def read_only(*folders):
    """Inside, they and all below them belong to nobody and may not be written to."""
    changed = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    before = {path: path.stat().st_mode for path in changed}
    give(*folders)
    for path, mode in before.items():
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        with without_rights():
            yield
    finally:
        for path, mode in before.items():
            if path.exists():
                path.chmod(mode)


def refused(done, code):
    """Whether a command ended with status 4 and one line with this code."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("medgan:")]
    assert done.returncode == 4, done.stderr
    assert len(lines) == 1
    assert lines[0].startswith(f"medgan: {code}"), lines
    assert "Traceback" not in done.stderr
    return True


@pytest.mark.fault("read-only")
@pytest.mark.parametrize("verb", ["check", "score", "train", "generate"])
def test_an_output_below_a_read_only_folder_is_one_line_and_leaves_nothing(
    verb, shared, place, measured
):
    given = {
        "check": ["check", shared / "scans"],
        "score": ["score", shared / "model", shared / "scans"],
        "train": ["train", shared / "tiny.yaml", "--data", shared / "scans"],
        "generate": ["generate", shared / "model", "-n", 1],
    }[verb]
    runs = place / "runs"
    runs.mkdir()
    with read_only(runs):
        done = inside(*given, "-o", runs / "new")
    assert refused(done, "E_DISK")
    assert everything(runs) == {}
    measured(f"{verb}: E_DISK, status {done.returncode}, nothing written")


@pytest.mark.fault("read-only")
def test_results_that_became_read_only_stay_as_they_are(shared, place, measured):
    out, refusals = place / "out", 0
    command = ["score", shared / "model", shared / "scans", "-o", out]
    with without_rights():
        assert inside(*command).returncode == 0
    for folder in (out, out / "maps", out / "work"):
        if folder == out / "work":
            for record in (out / "work").rglob("*.json"):  # so that there is something to do
                record.unlink()
        with read_only(folder):
            before = everything(out)
            refusals += refused(inside(*command, "--replace"), "E_DISK")
            assert everything(out) == before
    measured(f"{refusals} runs into results that may not be written: all as before")


@pytest.mark.fault("read-only")
def test_a_training_whose_cache_or_checkpoints_may_not_be_written_says_so_and_goes_on_later(
    shared, place
):
    out = place / "out"
    command = ["train", shared / "tiny.yaml", "--data", shared / "scans", "-o"]
    assert inside(*command, place / "whole").returncode == 0  # and all that it imports is there
    give(place / "home")
    command.append(out)
    for name in ("cache", "checkpoints"):
        (out / name).mkdir(parents=True, exist_ok=True)
        os.chmod(out, 0o777)
        before = everything(out / name)
        with read_only(out / name):
            assert refused(inside(*command), "E_DISK")
        assert everything(out / name) == before
        assert not list(out.rglob("*.tmp*"))
        assert not (out / "model").exists()
        give(out / name)
    with without_rights():
        assert inside(*command).returncode == 0
    weights = "model/model.safetensors"
    assert (out / weights).read_bytes() == (place / "whole" / weights).read_bytes()


@pytest.mark.fault("read-only")
def test_scans_and_a_model_that_may_only_be_read_are_used(shared, place):
    model = place / "model"
    save_calibrated(model)
    with read_only(shared / "scans", model):
        before = everything(model)
        done = inside("score", model, shared / "scans", "-o", place / "scores")
        assert done.returncode == 0, done.stderr
        done = inside("calibrate", model, shared / "scans")
        assert refused(done, "E_DISK")
        assert everything(model) == before


@pytest.mark.fault("read-only")
def test_a_home_without_the_right_to_keep_a_secret_is_one_line(shared, place):
    home = place / "home"
    home.mkdir()
    with read_only(home):
        assert refused(inside("check", shared / "scans", "-o", place / "out"), "E_SALT")
    assert everything(home) == {}
