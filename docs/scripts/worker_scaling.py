"""Wall time of scoring on one and two workers, local and on Ray: efficiency = t1 / (2 t2).

    python docs/scripts/worker_scaling.py zoo/hippocampus $MEDGAN_DATA/msd_hippocampus/imagesTr

From files to tables, maps and pages, start included. Each process computes on one thread. The
machine has to be quiet: the load is printed beside each time.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory


def seconds(model: Path, scans: Path, out: Path, engine: str, workers: int, pages: int) -> float:
    """Wall time of one scoring into a fresh folder."""
    command = [
        *(sys.executable, "-m", "medgan", "score", str(model), str(scans), "-o", str(out)),
        *("--engine", engine, "--workers", str(workers), "--set", f"report.scans={pages}"),
    ]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        environment[name] = "1"
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - start


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same tables and maps, byte for byte."""
    names = ["scores.csv", "scores.json", "regions.csv"]
    names += [f"maps/{path.name}" for path in (one / "maps").iterdir()]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def main() -> None:
    """Measures and prints a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path, help="folder of NIfTI files")
    parser.add_argument("-n", "--scans", type=int, default=200)
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="the fastest counts")
    parser.add_argument("--pages", type=int, default=100)
    options = parser.parse_args()
    rows, first = [], None
    with TemporaryDirectory() as place:
        scans = Path(place) / "scans"
        scans.mkdir()
        found = sorted(options.source.glob("*.nii.gz"))[: options.scans]
        for path in found:
            shutil.copy(path, scans)
        print(f"{len(found)} scans")
        for engine in options.engines:
            times = {}
            for workers in (1, options.workers):
                for number in range(options.repeats):
                    load, out = os.getloadavg()[0], Path(place) / f"{engine}{workers}-{number}"
                    took = seconds(options.model, scans, out, engine, workers, options.pages)
                    print(f"{engine:6} {workers} workers {took:7.1f} s (load before {load:.1f})")
                    times[workers] = min(took, times.get(workers, took))
                    first = first or out
                    if not same(first, out):
                        raise SystemExit(f"{engine} with {workers} workers has other results")
                    if out != first:
                        shutil.rmtree(out)
            efficiency = times[1] / (options.workers * times[options.workers])
            print(f"{engine:6} efficiency {efficiency:.2f}")
            rows.append({"engine": engine, "seconds": times, "efficiency": efficiency})
    print(json.dumps({"scans": len(found), "results": rows}))


if __name__ == "__main__":
    main()
