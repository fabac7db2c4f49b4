"""Workers and shards killed at random: no case is lost, none is there twice."""

import csv
import importlib.util
import random
import subprocess
import threading
import time
from contextlib import suppress

import psutil
import pytest

from tests.kit.command_line import MEDGAN, medgan
from tests.kit.data_sets import write_folder
from tests.kit.models import save_calibrated
from tests.kit.ray_alone import ray_alone

SCANS, KILLS, MOST_FOR_ONE_CASE, MOST_IDLE = 120, 5, 120.0, 240.0
"""Scans, processes killed; processor seconds, and seconds with hardly any, after which a run has
come to a stop."""
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    save_calibrated(folder / "model")
    write_folder(folder / "scans", SCANS, labels=False)
    return folder


@pytest.fixture(autouse=True)
def same_site(place, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def whole(place):
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(place / "home"))
    home.setenv("OMP_NUM_THREADS", "1")
    process = start(*command(place, place / "whole"), "--workers", "1")
    text = ended(process, place / "whole")
    assert process.returncode == 0, text
    home.undo()
    return place / "whole"


def command(place, out):
    return ["score", place / "model", place / "scans", "-o", out]


def start(*arguments):
    return subprocess.Popen(
        [*MEDGAN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def records(out):
    return len(list(out.glob("**/work/cases/*.json")))


class Patience:
    """Waits for processes as long as they get on, however slow the machine is.

    It ends when they have used much processor time since the last news, or hardly any for minutes.
    """

    def __init__(self):
        self._news, self._spent, self._idle = None, 0.0, (0.0, time.monotonic())

    def wait(self, running, news):
        """Looks once at processes and at what tells of their progress."""
        used, now = processor_seconds(running), time.monotonic()
        if news != self._news:
            self._news, self._spent, self._idle = news, used, (used, now)
        if abs(used - self._idle[0]) > 0.5:
            self._idle = used, now
        assert used - self._spent < MOST_FOR_ONE_CASE, f"{used - self._spent:.0f} s since {news}"
        assert now - self._idle[1] < MOST_IDLE, f"nothing is done any more since {news}"


def moments(out, seed, running):
    """Waits until a random number of cases is done, five times.

    Args:
        out: folder of the run.
        seed: of the numbers.
        running: gives the processes that work at the moment.
    """
    for count in sorted(random.Random(seed).sample(range(5, SCANS - 15), KILLS)):
        patience = Patience()
        while (done := records(out)) < count:
            now = running()
            assert any(one.poll() is None for one in now), f"{done} cases are done, not {count}"
            patience.wait(now, f"case {done} of {count}")
            time.sleep(0.05)
        yield


def processor_seconds(running):
    """Used by processes and their descendants, those included that have ended."""
    total = 0.0
    for process in running:
        with suppress(psutil.Error):
            top = psutil.Process(process.pid)
            for one in (top, *top.children(recursive=True)):
                with suppress(psutil.Error):
                    total += sum(one.cpu_times()[:4])
    return total


def ended(process, out):
    """What a process that works in a folder printed, once it has ended."""
    found, patience = [], Patience()
    reading = threading.Thread(target=lambda: found.append(process.communicate()[0]), daemon=True)
    reading.start()
    while reading.is_alive():
        patience.wait([process], f"the end of {records(out)} cases")
        reading.join(0.2)
    return found[0]


def workers_of(process, engine):
    """Worker processes of a running command: grandchildren, or the actors among its descendants."""
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            words = " ".join(one.cmdline())
            if engine == "ray" and words.startswith("ray::_Actor"):
                found.append(one)
            if engine == "local" and "forkserver" in words and one.ppid() != process.pid:
                found.append(one)
        except psutil.Error:
            continue
    return found


def same(out, whole):
    with (out / "scores.csv").open(newline="") as file:
        names = [row["case"] for row in csv.DictReader(file)]
    assert len(names) == len(set(names)) == SCANS
    for name in ("scores.csv", "scores.json", "regions.csv", "manifest.json", "refused.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    for kind in ("maps", "recons", "regions", "report/scans"):
        files = {path.name: path.read_bytes() for path in (out / kind).iterdir()}
        assert files == {path.name: path.read_bytes() for path in (whole / kind).iterdir()}, kind


@pytest.mark.fault(41)
@pytest.mark.fault(43)
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])
def test_five_workers_killed_at_random_leave_what_one_process_leaves(
    place, whole, engine, tmp_path, monkeypatch
):
    out, killed = tmp_path / "out", 0
    if engine == "ray":
        ray_alone(monkeypatch, tmp_path / "home")
    process = start(*command(place, out), "--engine", engine, "--workers", 2)
    for _ in moments(out, engine, lambda: [process]):
        while not (workers := workers_of(process, engine)):
            assert process.poll() is None
            time.sleep(0.05)
        random.Random(killed).choice(workers).kill()
        killed += 1
    text = ended(process, out)
    assert process.returncode == 0, text
    assert killed == KILLS
    assert text.count("a worker has died") == KILLS
    same(out, whole)


@pytest.mark.fault(41)
@pytest.mark.fault(43)
def test_shards_killed_at_random_and_begun_again_leave_what_one_run_leaves(place, whole, tmp_path):
    out, shards = tmp_path / "out", ("1/3", "2/3", "3/3")

    def begin(shard):
        return start(*command(place, out), "--workers", 1, "--shard", shard)

    running, killed = {shard: begin(shard) for shard in shards}, 0
    for number, _ in enumerate(moments(out, "shards", lambda: list(running.values()))):
        alive = [shard for shard, process in running.items() if process.poll() is None]
        shard = random.Random(number).choice(alive)
        running[shard].kill()
        running[shard].communicate()
        killed += 1
        running[shard] = begin(shard)
    for process in running.values():
        text = ended(process, out)
        assert process.returncode == 0, text
    assert killed == KILLS
    if (out / "shards").exists():  # two ended at the same moment
        assert medgan("merge", out).returncode == 0
    same(out, whole)


@pytest.mark.fault(41)
@pytest.mark.fault(43)
def test_a_run_killed_at_random_goes_on_with_the_same_command(place, whole, tmp_path):
    out = tmp_path / "out"
    running = [start(*command(place, out), "--workers", 2)]
    for _ in moments(out, "run", lambda: running):
        running[0].kill()
        running[0].communicate()
        running[0] = start(*command(place, out), "--workers", 2)
    text = ended(running[0], out)
    assert running[0].returncode == 0, text
    assert "were done by an earlier run" in text
    same(out, whole)
