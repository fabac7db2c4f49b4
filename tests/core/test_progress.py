import logging

import pytest

from medgan.core import progress
from medgan.core.progress import TrainingProgress, counting


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_now_and_then_and_a_last_one(clock, caplog):
    with caplog.at_level(logging.INFO), counting("checking scans") as show:
        for done in range(1, 101):
            clock[0] += 1
            show(done, 100)
    assert [line.split()[-1] for line in caplog.messages] == [
        *(f"{n}/100" for n in range(16, 100, 16)), "100/100",
    ]  # fmt: skip
    assert caplog.messages[0] == " 16%  checking scans 16/100"


def test_no_scans_are_done_at_once(caplog):
    with caplog.at_level(logging.INFO), counting("checking scans") as show:
        show(0, 0)
    assert caplog.messages == ["100%  checking scans 0/0"]


def test_a_training_says_speed_time_left_and_losses(clock, caplog):
    losses = {"critic/loss": 1.0, "generator/critic": 2.0, "time/volumes_per_second": 2.0}
    with caplog.at_level(logging.INFO), TrainingProgress(100, 0.0) as bar:
        bar.update(2, 1.0, losses | {"generator/reconstruction": 0.25})
        clock[0] = 16
        bar.update(20, 10.0, losses)
    assert caplog.messages == [
        " 20%  training: 20 volumes  2.0/s  0:40 left  D 1.000  G 2.000  recon 0.250"
    ]


def test_a_time_limit_counts_where_it_is_closer(clock, caplog):
    losses = {"critic/loss": 1.0, "generator/critic": 2.0, "time/volumes_per_second": 2.0}
    clock[0] = 0
    with caplog.at_level(logging.INFO), TrainingProgress(1000, 20.0) as bar:
        clock[0] = 16
        bar.update(20, 10.0, losses)
    assert " 50%  training: 20 volumes  2.0/s  0:10 left" in caplog.messages[0]
