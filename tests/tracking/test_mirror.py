"""The background copy of a training: all rows once, whatever the server does, and no waiting."""

import logging
import threading
import time

import pytest

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import write_atomic
from medgan.tracking import mirror as module
from medgan.tracking.failures import explain
from medgan.tracking.mirror import Mirror
from medgan.tracking.record import Record
from medgan.tracking.sending import Sender, rows_left
from medgan.tracking.sent import SentFile
from medgan.tracking.tracker import METRICS, JsonlTracker

LATER = "medgan sync runs/x"


class Store:
    """What a server has kept: like MLflow, one of each row and picture."""

    def __init__(self, folder):
        self.folder = folder
        self.points, self.requests, self.pictures, self.statuses = set(), [], [], []
        self.records = 0
        self.failures = 0
        """So many calls fail from now on."""
        self.keeps_before_failing = self.artifacts_fail = False
        self.hangs = threading.Event()
        self.hangs.set()

    def open(self):
        self.ask()
        return StoredRun(self)

    def ask(self):
        self.hangs.wait()
        if self.failures:
            self.failures -= 1
            raise explain(ConnectionError("Connection refused"))


class StoredRun:
    """Stands for `MlflowRun`."""

    def __init__(self, store):
        self._store, self._file = store, SentFile(store.folder)
        (store.folder / "mlflow_run.txt").write_text("r")
        self.sent = self._file.of("r")

    def log(self, rows):
        points = {(row.time, row.step, *item) for row in rows for item in row.metrics.items()}
        if self._store.keeps_before_failing and self._store.failures:
            self._store.points |= points
        self._store.requests.append(points)
        self._store.ask()
        self._store.points |= points

    def picture(self, path):
        self._store.ask()
        self._store.pictures.append(path.name)

    def describe(self, record, config):
        self._store.ask()
        if self._store.artifacts_fail:
            raise explain(PermissionError("mlartifacts"))
        self._store.records += 1

    def finish(self, status):
        self._store.ask()
        self._store.statuses.append(status)

    def save(self):
        self._file.save()


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("SECONDS_BETWEEN", "LONGEST_PAUSE", "_SECONDS_BETWEEN_LAST_TRIES"):
        monkeypatch.setattr(module, name, 0.005)
    (tmp_path / "samples").mkdir()
    Record({"a": 1}).write(tmp_path)
    return Store(tmp_path)


def write(store, mirror, numbers, metrics=2, seconds=0.0):
    jsonl = JsonlTracker(store.folder / METRICS, 10**9)
    for number in numbers:
        jsonl.log({f"m/{n}": 1.0 for n in range(metrics)}, number)
        mirror.log({}, number)
        time.sleep(seconds)


def steps(store):
    return sorted(point[1] for point in store.points if point[2] == "m/0")


@pytest.mark.fault(37)
def test_all_rows_pictures_and_settings_arrive_and_the_run_is_closed(store):
    with Mirror(store.open, store.folder, LATER) as mirror:
        write(store, mirror, range(700), metrics=3)
        (store.folder / "samples" / "1.png").write_bytes(b"picture")
        mirror.picture(store.folder / "samples" / "1.png")
    assert steps(store) == list(range(700))
    assert max(len(points) for points in store.requests) <= 1000
    assert (store.pictures, store.records, store.statuses) == (["1.png"], 1, ["FINISHED"])
    assert rows_left(store.folder) == 0


@pytest.mark.fault(37)
@pytest.mark.parametrize("kept", [False, True])
def test_after_failures_every_row_is_there_once_with_the_time_it_was_first_sent_with(
    store, kept, caplog
):
    caplog.set_level(logging.INFO)
    store.keeps_before_failing = kept
    with Mirror(store.open, store.folder, LATER) as mirror:
        write(store, mirror, range(20))
        wait_for(lambda: len(steps(store)) == 20)
        store.failures = 5
        write(store, mirror, range(20, 40), seconds=0.002)
    assert steps(store) == list(range(40))
    assert len(store.points) == 80
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") == 1


def wait_for(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.fault(37)
def test_a_server_that_is_dead_at_the_start_gets_everything_once_it_lives(store, caplog):
    store.failures = 4
    with Mirror(store.open, store.folder, LATER) as mirror:
        write(store, mirror, range(10))
    assert steps(store) == list(range(10))
    assert (store.records, store.statuses) == (1, ["FINISHED"])
    assert caplog.text.count("E_TRACKING") == 1


@pytest.mark.fault(37)
@pytest.mark.fault(39)
def test_a_store_of_artifacts_that_fails_holds_back_no_metric(store, monkeypatch, measured):
    monkeypatch.setattr(module, "SECONDS_WITHOUT_ANSWER", 0.05)
    monkeypatch.setattr(module, "SECONDS_AT_END", 0.05)
    store.artifacts_fail = True
    mirror = Mirror(store.open, store.folder, LATER)
    with mirror:
        write(store, mirror, range(60))
        wait_for(lambda: rows_left(store.folder) == 0)
    assert len(steps(store)) == 60
    assert store.records == 0
    measured(f"{len(steps(store))} of 60 rows while every artifact fails")
    store.artifacts_fail = False
    later, sender = store.open(), Sender(store.folder)
    assert (sender.metrics(later), sender.settings(later)) == (0, True)
    mirror._thread.join(5)


@pytest.mark.fault(37)
def test_a_store_that_can_never_work_stops_the_start(store):
    def refused():
        raise explain(ValueError("Unsupported URI"))

    with pytest.raises(EnvironmentFailure, match="no store of MLflow"):
        Mirror(refused, store.folder, LATER)


@pytest.mark.fault(37)
def test_a_server_that_hangs_holds_up_no_step_and_the_end_only_for_a_while(
    store, caplog, monkeypatch
):
    monkeypatch.setattr(module, "SECONDS_AT_END", 0.05)
    mirror = Mirror(store.open, store.folder, LATER)
    write(store, mirror, range(5))
    wait_for(lambda: len(steps(store)) == 5)
    store.hangs.clear()
    started = time.monotonic()
    with mirror:
        for number in range(5, 25):
            write(store, mirror, [number])
    assert time.monotonic() - started < 2
    assert "20 rows" in caplog.text
    assert LATER in caplog.text
    store.hangs.set()
    mirror._thread.join(5)
    assert not mirror._thread.is_alive()


@pytest.mark.fault(37)
def test_a_server_that_is_silent_at_the_start_holds_it_up_for_a_moment_and_gets_everything_later(
    store, caplog
):
    caplog.set_level(logging.INFO)
    store.hangs.clear()
    started = time.monotonic()
    with Mirror(store.open, store.folder, LATER, 0.05) as mirror:
        assert time.monotonic() - started < 1
        assert caplog.text.count("does not answer") == 1
        write(store, mirror, range(5))
        assert steps(store) == []
        store.hangs.set()
    assert steps(store) == list(range(5))
    assert caplog.text.count("answers again") == 1
    assert store.statuses == ["FINISHED"]


@pytest.mark.fault(37)
@pytest.mark.parametrize("silent", [False, True])
def test_a_server_without_an_answer_holds_up_the_end_less_than_one_that_answers(
    silent, store, caplog, monkeypatch
):
    monkeypatch.setattr(module, "SECONDS_WITHOUT_ANSWER", 0.05)
    monkeypatch.setattr(module, "_SILENT", 0.1)
    with Mirror(store.open, store.folder, LATER) as mirror:
        if silent:
            store.hangs.clear()
        else:
            store.failures = 10**9
        write(store, mirror, range(5))
        time.sleep(0.2)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert "5 rows" in caplog.text
    store.failures = 0
    store.hangs.set()
    mirror._thread.join(5)


@pytest.mark.fault(37)
def test_rewinding_loses_and_repeats_nothing(store):
    """Rows after the rewinding begin within those that were read before, and end beyond them."""
    jsonl = JsonlTracker(store.folder / METRICS)
    with Mirror(store.open, store.folder, LATER) as mirror:
        for number in range(10):
            jsonl.log({"m/0": 1.0}, number)
        mirror.log({}, 9)
        wait_for(lambda: mirror._sender._rows._offset > 0)  # all read, and the place remembered
        jsonl.rewind(4)
        mirror.rewind(4)
        for number in range(5, 15):
            jsonl.log({"m/0": 2.0, "longer": 3.0}, number)
        mirror.log({}, 14)
    after = [point[:2] for point in store.points if point[2:] == ("m/0", 2.0)]
    assert sorted(step for _, step in after) == list(range(5, 15))
    assert sum(map(len, store.requests)) == len(store.points) == 10 + 2 * 10


@pytest.mark.fault(37)
def test_what_was_acknowledged_is_not_sent_again_by_the_next_process(store):
    for first in (0, 10):
        with Mirror(store.open, store.folder, LATER) as mirror:
            write(store, mirror, range(first, first + 10))
    assert steps(store) == list(range(20))
    assert sum(map(len, store.requests)) == 40
    assert store.records == 1


@pytest.mark.fault(37)
def test_a_picture_that_is_drawn_again_is_sent_again(store):
    path = store.folder / "samples" / "1.png"
    for content in (b"a", b"a", b"b"):
        with Mirror(store.open, store.folder, LATER) as mirror:
            write_atomic(path, content)
            mirror.picture(path)
    assert store.pictures == ["1.png", "1.png"]


@pytest.mark.fault(37)
def test_the_training_thread_is_kept_for_less_than_a_millisecond_a_step(store):
    jsonl = JsonlTracker(store.folder / METRICS)
    with Mirror(store.open, store.folder, LATER) as mirror:
        started = time.thread_time()
        for number in range(200):
            jsonl.log({f"m/{n}": 0.1 for n in range(12)}, number)
            mirror.log({}, number)
        assert (time.thread_time() - started) / 200 < 0.001
