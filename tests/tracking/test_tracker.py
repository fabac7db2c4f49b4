import gc
import json
import math

import pytest

from medgan.tracking.tracker import JsonlTracker, Trackers, read_metrics


def test_rows_are_read_back_as_logged(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log({"loss": 0.5, "time/rate": 3.0}, 8)
    tracker.log({"loss": 0.25}, 16)
    assert without_times(path) == [
        {"volumes_seen": 8, "loss": 0.5, "time/rate": 3.0},
        {"volumes_seen": 16, "loss": 0.25},
    ]


def without_times(path):
    return [{k: v for k, v in row.items() if k != "time"} for row in read_metrics(path)]


@pytest.mark.fault(42)
def test_times_of_rows_grow_whatever_the_clock_does_and_over_dropped_rows(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    times = []
    for clock, resume_at in ((100.0, 0), (100.0, 8), (50.0, 0)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        tracker = JsonlTracker(path, resume_at)
        for seen in (8, 16):
            tracker.log({"loss": 1.0}, seen)
            times.append(read_metrics(path)[-1]["time"])
        tracker.rewind(8)
        tracker.log({"loss": 1.0}, 16)
        times.append(read_metrics(path)[-1]["time"])
    assert times[0] == 100_000
    assert times == sorted(set(times))


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    for number in range(1, 4):
        tracker.log({"loss": 1.0}, number)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == number


@pytest.mark.parametrize(
    ("resume_at", "kept"), [(0, []), (8, [8]), (20, [8, 16]), (99, [8, 16, 24])]
)
def test_rows_beyond_the_checkpoint_are_dropped_on_resuming(resume_at, kept, tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = JsonlTracker(path)
    for seen in (8, 16, 24):
        first.log({"loss": 1.0}, seen)
    second = JsonlTracker(path, resume_at)
    assert [row["volumes_seen"] for row in read_metrics(path)] == kept
    second.log({"loss": 2.0}, 32)
    assert [row["volumes_seen"] for row in read_metrics(path)] == [*kept, 32]
    assert read_metrics(path)[-1]["loss"] == 2.0


@pytest.mark.parametrize("length", [1, 10, 20])
def test_a_last_line_cut_off_by_a_kill_is_passed_over_and_mended(length, tmp_path):
    path = tmp_path / "metrics.jsonl"
    JsonlTracker(path).log({"loss": 1.0}, 8)
    with path.open("a") as file:
        file.write(json.dumps({"volumes_seen": 16, "loss": 0.5})[:length])
    assert without_times(path) == [{"volumes_seen": 8, "loss": 1.0}]
    JsonlTracker(path, resume_at=16).log({"loss": 0.5}, 16)
    assert without_times(path) == [{"volumes_seen": n, "loss": 8 / n} for n in (8, 16)]


def test_a_file_that_is_not_there_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_metrics_that_are_not_numbers_survive(tmp_path):
    path = tmp_path / "metrics.jsonl"
    JsonlTracker(path).log({"loss": math.nan}, 8)
    assert math.isnan(read_metrics(path)[0]["loss"])


def test_a_tracker_that_is_dropped_leaves_no_file_open(tmp_path):
    """An open file would end here in a ResourceWarning, which is an error."""
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log({"loss": 1.0}, 8)
    del tracker
    gc.collect()


class Notebook:
    def __init__(self):
        self.heard = []

    def log(self, scalars, volumes_seen):
        self.heard.append((scalars, volumes_seen))

    def picture(self, path):
        self.heard.append(path)

    def rewind(self, volumes_seen):
        self.heard.append(volumes_seen)


def test_several_trackers_all_hear_everything_in_order(tmp_path):
    notebooks = [Notebook(), Notebook()]
    together = Trackers(notebooks)
    together.log({"loss": 1.0}, 8)
    together.picture(tmp_path / "a.png")
    together.rewind(4)
    for notebook in notebooks:
        assert notebook.heard == [({"loss": 1.0}, 8), tmp_path / "a.png", 4]
