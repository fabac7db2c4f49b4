import json
from xml.sax.saxutils import escape

import pytest
import torch

from medgan.app import device_check
from medgan.app.device_check import JSON, PAGE, TESTS, Parts, check_device, kinds
from medgan.core.errors import EnvironmentFailure


@pytest.fixture
def here(monkeypatch):
    """Steps are timed in this process, and the loader is not."""
    monkeypatch.setattr(device_check, "in_process", lambda work, *given: work(*given))
    waiting = {"shape": "1x1x1", "batch": 1, "volumes_per_second": 2.5, "waiting": 0.01}
    monkeypatch.setattr(device_check, "_loader", lambda device: waiting)
    monkeypatch.setattr(device_check, "_STEPS", 1)


def test_a_tiny_check_on_the_cpu_measures_each_task_and_writes_a_page(here, tmp_path, monkeypatch):
    only = kinds(16, "cpu")["restoration"]
    monkeypatch.setattr(device_check, "kinds", lambda edge, device: {"restoration": only})
    name = "test <of> a card"
    (tmp_path / TESTS).write_text(
        '<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1">'
        f'<testcase name="{escape(name)}"><failure/></testcase><testcase name="fine"/>'
        "</testsuite></testsuites>"
    )
    found = check_device(tmp_path, [16], 0, 10, "phantoms", device="cpu")
    assert json.loads((tmp_path / JSON).read_text()) == found
    (row,) = found["steps"]
    assert (row["task"], row["edge"], row["batch"]) == ("restoration", 16, 8)
    assert row["volumes_per_second"] > 0
    assert 0 < row["share_of_peak"]
    assert row["forecast_mib"] > 1
    assert found["tests"] == {
        "tests": 3, "failures": 1, "errors": 0, "skipped": 1, "failed": [name],
    }  # fmt: skip
    page = (tmp_path / PAGE).read_text()
    assert "restoration" in page
    assert "1 of 3 failed" in page
    assert name not in page
    assert "test &lt;of&gt; a card" in page


def test_a_part_that_fails_is_told_and_the_others_are_measured(here, tmp_path, monkeypatch):
    def broken(*_):
        raise torch.OutOfMemoryError("out of memory\nwith a long trace")

    monkeypatch.setattr(device_check, "timed_step", broken)
    found = check_device(tmp_path, [64], 0, 10, "phantoms", device="cpu")
    assert {row["failed"] for row in found["steps"]} == {"out of memory"}
    assert found["loader"]["volumes_per_second"] == 2.5
    assert "out of memory" in (tmp_path / PAGE).read_text()


def test_parts_that_there_is_no_time_for_are_left_out_and_named(tmp_path):
    part = Parts(-1)
    assert part("loader", lambda: {}) is None
    assert part.left_out == ["loader"]


def test_a_card_that_is_asked_for_and_absent_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentFailure, match="E_DEVICE"):
        check_device(tmp_path, [16], 0, 10, "phantoms", device="cuda")


@pytest.mark.parametrize("edge", [64, 128, 256])
def test_networks_of_every_size_fit_the_cubes(edge):
    assert {task: grid.shape for task, (_, grid) in kinds(edge, "cpu").items()} == {
        task: (edge,) * 3 for task in ("synthesis", "restoration", "translation")
    }


@pytest.mark.slow
def test_the_whole_check_with_a_training(tmp_path):
    found = check_device(tmp_path, [16], 0.1, 20, "phantoms", device="cpu")
    assert found["training"]["volumes"] > 0
    assert found["loader"]["waiting"] < 0.5
    assert (tmp_path / "training" / "samples" / found["training"]["picture"]).is_file()
