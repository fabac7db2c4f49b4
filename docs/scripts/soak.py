"""Trains, scores and serves side by side for an hour: memory, file descriptors and threads.

    python docs/scripts/soak.py zoo/hippocampus $MEDGAN_DATA/msd_hippocampus runs/soak --minutes 60

Each kind of work is one process that does the same again and again: a training of the preset,
scoring through the Python API, and `medgan serve` under requests by upload and by path. All are
sampled every five seconds. The first fifth is left out; the growth an hour is the slope of Theil
and Sen with its interval of 95%. Prints a table, writes soak.json, and ends with 1 where anything
grew.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from scipy.stats import theilslopes
from serve_load import Server, form

import medgan
from medgan.core.tables import text_table
from medgan.core.volume import Volume

_EVERY = 5.0
_MOST = {"memory_mib": 0.05, "descriptors": 0.0, "threads": 0.0}
"""Growth within the measured time that counts as none, as a share of the mean. A growth counts only
where the interval of its slope lies above 0."""


class Requests(threading.Thread):
    """Requests to a server, by path and by upload in turn, and what became of them."""

    def __init__(self, server: Server, scan: Path) -> None:
        super().__init__(daemon=True)
        self._server, self._scan = server, scan
        self.over, self.done, self.failed = threading.Event(), 0, 0

    def run(self) -> None:
        """Asks until it is over."""
        by_path = json.dumps({"path": self._scan.name}).encode()
        upload, kind = form({"scan": self._scan.read_bytes()})
        while not self.over.is_set():
            for route, body, type_ in (
                ("/v1/score", by_path, "application/json"),
                ("/v1/score/upload", upload, kind),
            ):
                status, _ = self._server.post(route, body, type_)
                self.done += 1
                self.failed += status != 200


def score_for_ever(model: str, scans: list[Path], done: Any) -> None:  # noqa: ANN401 - shared number
    """Reads and scores scans in turn."""
    loaded = medgan.load(model)
    while True:
        for path in scans:
            loaded.score(Volume.load(path))
            done.value += 1


def used(pid: int) -> dict[str, float]:
    """What a process and its children hold now."""
    process = psutil.Process(pid)
    held = {"memory_mib": 0.0, "descriptors": 0.0, "threads": 0.0}
    for one in (process, *process.children(recursive=True)):
        held["memory_mib"] += one.memory_info().rss / 2**20
        held["descriptors"] += one.num_fds()
        held["threads"] += one.num_threads()
    return held


def growth(hours: list[float], values: list[float], most: float) -> dict[str, Any]:
    """The slope an hour of what came after the first fifth, and whether it is none."""
    start = len(hours) // 5
    hours, values = hours[start:], values[start:]
    slope, _, low, high = theilslopes(values, hours)
    mean = sum(values) / len(values)
    grown = slope * (hours[-1] - hours[0])
    return {
        "mean": round(mean, 1), "least": round(min(values), 1), "largest": round(max(values), 1),
        "growth_an_hour": round(slope, 3), "low": round(low, 3), "high": round(high, 3),
        "flat": bool(low <= 0 or grown <= most * mean),
    }  # fmt: skip


def main() -> int:
    """Measures for the time that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder of a model that scores")
    parser.add_argument("data", type=Path, help="folder of a data set of its kind")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--preset", default="msd_hippocampus")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    images = sorted((options.data / "imagesTr").glob("[!.]*.nii.gz"))[:20]
    command = [
        *(sys.executable, "-m", "medgan", "train", options.preset, "--data", str(options.data)),
        *("-o", str(options.out / "train"), "--set", "train.volumes=100000000", "--replace"),
    ]
    spawn = multiprocessing.get_context("spawn")
    scored = spawn.Value("l", 0)
    samples: dict[str, list[dict[str, float]]] = {"training": [], "scoring": [], "serving": []}
    hours: list[float] = []
    with ExitStack() as stack:
        log = stack.enter_context((options.out / "train.log").open("w"))
        training = subprocess.Popen(command, stderr=log, stdout=log)
        stack.callback(training.wait)
        stack.callback(training.terminate)
        scoring = spawn.Process(target=score_for_ever, args=(options.model, images, scored))
        scoring.start()
        stack.callback(scoring.kill)
        server = stack.enter_context(Server(options.model, images[0].parent))
        asking = Requests(server, images[0])
        asking.start()
        pids = {"training": training.pid, "scoring": scoring.pid, "serving": server.process.pid}
        began = time.monotonic()
        while (now := time.monotonic() - began) < 60 * options.minutes:
            time.sleep(_EVERY)
            for name, pid in pids.items():
                samples[name].append(used(int(pid or 0)))
            hours.append(now / 3600)
        asking.over.set()
        asking.join()
    found = {
        name: {kind: growth(hours, [row[kind] for row in rows], _MOST[kind]) for kind in _MOST}
        for name, rows in samples.items()
    }
    lines = [
        [name, kind, *(row[key] for key in ("mean", "least", "largest", "growth_an_hour")),
         f"{row['low']} to {row['high']}", "flat" if row["flat"] else "grows"]
        for name, kinds in found.items() for kind, row in kinds.items()
    ]  # fmt: skip
    columns = ["process", "of", "mean", "least", "largest", "an hour", "interval", ""]
    print(text_table(columns, lines))
    print(f"{scored.value} scans scored; {asking.done} requests, {asking.failed} failed")
    record = {
        "minutes": options.minutes, "scored": scored.value, "requests": asking.done,
        "failed": asking.failed, "found": found, "hours": hours, "samples": samples,
    }  # fmt: skip
    (options.out / "soak.json").write_text(json.dumps(record))
    flat = all(row["flat"] for kinds in found.values() for row in kinds.values())
    return 0 if flat and not asking.failed else 1


if __name__ == "__main__":
    sys.exit(main())
