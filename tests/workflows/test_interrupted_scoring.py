"""One scoring that is interrupted a hundred times, and one that others try to write beside."""

import random
import signal
import time

import pytest

from tests.kit.data_sets import write_folder
from tests.kit.folder_contents import contents
from tests.kit.models import save_calibrated
from tests.kit.warm_program import warm_program

pytestmark = pytest.mark.slow
INTERRUPTIONS, FEW, MANY = 100, 50, 200
"""Of one scoring; scans of a folder that is scored often, and of one that is scored once."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    save_calibrated(folder / "model")
    for count in (FEW, MANY):
        write_folder(folder / f"scans-{count}", count, labels=False)
    return folder


@pytest.fixture(scope="module")
def program(place):
    with warm_program(place / "logs", XDG_CONFIG_HOME=str(place / "home")) as started:
        assert started.run(*command(place, FEW, place / "whole")) == 0
        yield started


def command(place, count, out):
    model, scans = place / "model", place / f"scans-{count}"
    return ["score", model, scans, "-o", out, "--workers", 1]  # workers import everything anew


def records(out):
    return len(list(out.glob("work/cases/*.json")))


@pytest.mark.fault(41)
def test_a_scoring_that_is_interrupted_a_hundred_times_leaves_the_bytes_of_a_whole_one(
    place, program, tmp_path, measured
):
    whole, out = place / "whole", tmp_path / "out"
    again = time.monotonic()
    assert program.start(*command(place, FEW, whole)).wait() == 0
    again = time.monotonic() - again  # of a run that finds all scores there
    draw, moments, killed = random.Random(0), [], 0
    while killed < INTERRUPTIONS:
        target = (killed + 1) // 2  # two a scan: one that ends the work five times is refused
        process = program.start(*command(place, FEW, out))
        if target > records(out):  # in the middle of a case, else in what comes before or after
            while records(out) < target and process.ended() is None:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.1))
        else:
            time.sleep(draw.uniform(0, 0.7 * again))
        moments.append(records(out))
        kind = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        process.send(kind)
        status = process.wait()
        assert status in (-signal.SIGKILL, -signal.SIGTERM, 75, 0), process.said()
        killed += status != 0
    left = records(out)
    done = program.start(*command(place, FEW, out))
    assert done.wait() == 0, done.said()
    assert f"{left} of {FEW} were done by an earlier run" in done.said()
    found, expected = contents(out), contents(whole)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert len(set(moments)) > FEW / 2  # all along the way
    measured(
        f"{killed} interruptions of one scoring of {FEW} scans, at {len(set(moments))} different "
        f"numbers of scans: all {len(expected)} files the same byte for byte"
    )


@pytest.mark.fault(40)
def test_scorers_that_come_second_end_with_status_4_and_disturb_nothing(
    place, program, tmp_path, measured
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert program.start(*command(place, MANY, whole)).wait() == 0
    draw, refused = random.Random(0), 0
    first = program.start(*command(place, MANY, out))
    while not (out / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    while first.ended() is None and refused < MANY:
        second = program.start(*command(place, MANY, out))
        time.sleep(draw.uniform(0, 0.1))
        if second.wait() == 0:  # the first has just ended
            assert first.ended() == 0
            break
        assert second.wait() == 4, second.said()
        assert second.said().count("medgan:") == second.said().count("medgan: E_BUSY") == 1
        refused += 1
    assert first.wait() == 0, first.said()
    found, expected = contents(out), contents(whole)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert refused >= 20
    measured(
        f"{refused} scorers beside one of {MANY} scans: status 4 each, "
        f"all {len(expected)} files of the first whole"
    )
