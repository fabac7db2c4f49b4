"""What the copy in MLflow costs a training: with a server, a dead, a killed, a slow one, and none.

python docs/scripts/tracking_cost.py SCANS [-v 480] [-r 3] [-a none restarted] [--set key=value]
python docs/scripts/tracking_cost.py --system

`restarted` is a server that is killed and started again 20 times at random while the training runs;
its points are counted afterwards. `beside` is a training without MLflow beside such a server: what
a busy neighbour costs on the same machine.

Trains the preset `msd_hippocampus` in a process of its own for each repeat, in an order that turns
around every time. Prints seconds of processor and wall time, those that the training waited at its
start and end, and the processor time of the copying thread, as Linux counts it. With `--system`:
milliseconds of processor of one sample of the machine's figures, and of a step at which none is
due.
"""

import argparse
import json
import os
import random
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from mlflow import MlflowClient

from medgan.tracking.client import connect, sqlite_uri
from medgan.tracking.system_metrics import WithSystemMetrics
from tests.kit.tracking_server import TrackingServer

_CHILD = """
import json, sys, threading, time
from medgan.tracking import mirror
work, ended = mirror.Mirror._work, []
def timed(self):
    work(self)
    ended.append(time.thread_time())
mirror.Mirror._work = timed
waited = {}
def waits(name):
    inside = getattr(mirror.Mirror, name)
    def measured(*arguments):
        started = time.time()
        try:
            return inside(*arguments)
        finally:
            waited[name] = time.time() - started
    setattr(mirror.Mirror, name, measured)
waits("_await_start")
waits("finish")
from medgan.app.pipeline import run_pipeline
started = time.time()
run_pipeline(sys.argv[1], sys.argv[3:])
for thread in threading.enumerate():
    if thread.name == "mlflow":
        stat = open(f"/proc/self/task/{thread.native_id}/stat").read().rpartition(")")[2].split()
        ended.append((int(stat[11]) + int(stat[12])) / 100)
found = {"thread": sum(ended), "wall": time.time() - started}
found |= {"start": waited.get("_await_start", 0), "end": waited.get("finish", 0)}
open(sys.argv[2], "w").write(json.dumps(found))
"""
_PIPELINE = "extends: msd_hippocampus\nsteps: [index, train]\n"
_KILLS, _SECONDS_BETWEEN_KILLS = 20, 2.5
_SLOW = 4.0
"""Seconds that the slow server takes to let a request through."""


@contextmanager
def slowed(port: int) -> Iterator[str]:
    """A way to a server that keeps each connection waiting."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def carry(source: socket.socket, to: socket.socket) -> None:
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

        def serve(caller: socket.socket) -> None:
            time.sleep(_SLOW)
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=carry, args=(server, caller), daemon=True).start()
            carry(caller, server)

        def answer() -> None:
            while True:
                caller, _ = door.accept()
                threading.Thread(target=serve, args=(caller,), daemon=True).start()

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


def trained(pipeline: Path, settings: list[str], meanwhile: threading.Thread | None) -> dict:
    """Seconds of one training."""
    out = pipeline.with_name("seconds.json")
    command = [sys.executable, "-W", "ignore", "-c", _CHILD, str(pipeline), str(out), *settings]
    child = os.posix_spawn(sys.executable, command, os.environ)
    if meanwhile is not None:
        meanwhile.start()
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return json.loads(out.read_text()) | {"processor": used.ru_utime + used.ru_stime}


def points(run: Path, store: str) -> str:
    """How many rows of a run's folder a store has once, twice and not at all."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    client, known = MlflowClient(store), (run / "mlflow_run.txt").read_text()
    name = "generator/critic"
    wanted = Counter(row["volumes_seen"] for row in rows if name in row)
    found = Counter(point.step for point in client.get_metric_history(known, name))
    once = sum(found[step] == 1 for step in wanted)
    return f"{once} of {wanted.total()} points once, {(found - wanted).total()} too many"


def repeat(arm: str, number: int, scans: str, volumes: int, folder: Path, more: list[str]) -> dict:
    """One training under one condition."""
    folder = folder / f"{arm}-{number}"
    folder.mkdir()
    pipeline = folder / "timed.yaml"
    pipeline.write_text(_PIPELINE)
    settings = [
        f"data.source={scans}", f"out={folder / 'run'}", f"train.volumes={volumes}",
        f"train.sample_every={volumes // 2}", *more,
    ]  # fmt: skip
    if arm in ("none", "dead"):
        uri = "none" if arm == "none" else "http://127.0.0.1:9"
        return trained(pipeline, [*settings, f"tracking.uri={uri}"], None)
    connect(sqlite_uri(folder / "mlflow.db"), write=True)
    with TrackingServer(folder / "mlflow.db") as server:
        killer, kills = None, []
        if arm in ("restarted", "beside"):

            def restart() -> None:
                while not (folder / "run" / "metrics.jsonl").is_file():
                    time.sleep(0.2)
                draw = random.Random(number)
                server.kill_and_restart(_KILLS, draw, kills, _SECONDS_BETWEEN_KILLS)

            killer = threading.Thread(target=restart)
        if arm == "killed":

            def kill() -> None:
                while not (folder / "run" / "metrics.jsonl").is_file():
                    time.sleep(0.2)
                time.sleep(3)
                server.kill()

            killer = threading.Thread(target=kill)
        if arm == "slow":
            with slowed(int(server.uri.rpartition(":")[2])) as uri:
                return trained(pipeline, [*settings, f"tracking.uri={uri}"], None)
        uri = "none" if arm == "beside" else server.uri
        found = trained(pipeline, [*settings, f"tracking.uri={uri}"], killer)
        if killer is not None:
            ended = time.time()
            killer.join()
            if arm == "restarted":
                print(f"{sum(kill < ended for kill in kills)} kills during the training;",
                      points(folder / "run", server.store))  # fmt: skip
        return found


class _Nowhere:
    """A tracker that keeps nothing."""

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """Does nothing."""

    def picture(self, path: Path) -> None:
        """Does nothing."""

    def rewind(self, volumes_seen: int) -> None:
        """Does nothing."""


def system_cost() -> None:
    """Prints what figures of the machine cost the training's own thread."""
    row = {f"metric {number}": 1.0 for number in range(12)}
    for text, seconds, steps in (("a sample", 0.0, 2000), ("a step without one", 10.0, 200_000)):
        tracker = WithSystemMetrics(_Nowhere(), Path.cwd(), False, seconds)
        started = time.process_time()
        for step in range(steps):
            tracker.log(row, step)
        print(f"{text}: {(time.process_time() - started) / steps * 1e3:.4f} ms of processor")


def main() -> None:
    """Prints a row for each repeat, and medians beside those without MLflow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scans", nargs="?")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("-v", "--volumes", type=int, default=480)
    parser.add_argument("-r", "--repeats", type=int, default=3)
    parser.add_argument(
        "-a", "--arms", nargs="+", default=["none", "server", "dead", "killed", "slow"]
    )
    parser.add_argument("--set", action="append", default=[], dest="settings")
    asked = parser.parse_args()
    if asked.system:
        return system_cost()
    if not asked.scans:
        parser.error("name scans")
    found = defaultdict(list)
    with TemporaryDirectory() as folder:
        for number in range(asked.repeats):
            for arm in asked.arms[:: 1 if number % 2 == 0 else -1]:
                row = repeat(arm, number, asked.scans, asked.volumes, Path(folder), asked.settings)
                found[arm].append(row)
                print(arm, {key: round(value, 2) for key, value in row.items()}, flush=True)
    for arm, rows in found.items():
        shares = {
            key: median(row[key] for row in rows) / median(row[key] for row in found["none"]) - 1
            for key in ("processor", "wall")
        }
        thread = median(row["thread"] for row in rows)
        print(f"{arm}: {shares['processor']:+.1%} processor, {shares['wall']:+.1%} wall, "
              f"{thread:.2f} s of the copying thread")  # fmt: skip


if __name__ == "__main__":
    main()
