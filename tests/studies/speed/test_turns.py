import pytest
import torch

from medgan.studies.speed import turns
from medgan.studies.speed.turns import Contender, Work, measured

CPU = torch.device("cpu")


class Clock:
    """Time that passes only where work says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def process_time(self):
        return 2 * self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(turns, "time", found)
    return found


def contender(name, clock, seconds, done, units=1):
    """A program whose turns take these seconds, one after the other."""
    left = iter(seconds)

    def turn():
        done.append(name)
        clock.now += next(left)

    return Contender(name, "all", "nobody's", lambda: Work(turn, units, {"memory": 3}))


def test_a_ratio_compares_turns_of_the_same_round(clock):
    done = []
    ours = contender("ours", clock, [9, 1, 10, 2], done)
    other = contender("other", clock, [9, 4, 20, 4], done, units=2)
    first, second = measured([ours, other], 3, CPU)
    assert done == ["ours", "other"] * 4
    assert first["ratio"] == {"value": 1, "low": 1, "high": 1}
    assert second["ratio"] == {"value": 1, "low": 1, "high": 2}
    assert (first["milliseconds"], second["milliseconds"]) == (2000, 2000)
    assert second["processor_milliseconds"] == 4000
    assert second["memory"] == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'x'", name="x"), "x is not installed: pip install"),
        (RuntimeError("operator missing\nand a trace"), "operator missing"),
        (MemoryError(), "no reason given"),
    ],
)
def test_what_does_not_run_is_told_and_the_others_are_measured(clock, error, said):
    def begin():
        raise error

    done = []
    found = measured(
        [
            contender("ours", clock, [1, 1], done),
            Contender("broken", "all", "nobody's", begin),
            contender("other", clock, [1, 3], done),
        ],
        1,
        CPU,
    )
    assert found[1]["absent"].startswith(said)
    assert "ratio" not in found[1]
    assert found[2]["ratio"]["value"] == 3
