"""Kills a training again and again: nothing that was saved is lost, and the end is the same.

    OMP_NUM_THREADS=1 python docs/scripts/kill_rounds.py runs/kills -n 1000

A small training is killed by SIGKILL at random moments, from the reading of its scans to the
writing of its model, and started again until it has ended; then the next one begins. Each has to
end with the weights, the metrics and the model of a training that was never killed, byte for byte,
and no newest checkpoint may be older than it was. Every training is forked from one process that
has imported everything. Prints and writes kills.json; ends with 1 where anything was lost.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from medgan.app.pipeline import run_pipeline
from medgan.core.volume import Volume
from medgan.training.schedule import Schedule

_SETTINGS = (
    "data.spacing=[2,2,2]", "data.shape=[16,16,16]", "data.fractions=[0.35,0.17,0.4,0.08]",
    "model.latent=8", "model.widths=[16,16]", "model.stem_channels=16", "model.blocks=1",
    "train.volumes=40", "train.batch=2", "train.warmup=4", "train.sample_every=20",
    "localiser.volumes=8", "tracking.uri=none", "train.precision=fp32",
)  # fmt: skip


def write_scans(folder: Path) -> Path:
    """Twelve noisy balls with their masks."""
    random_ = np.random.default_rng(0)
    folder.mkdir(parents=True)
    grid = np.indices((16, 16, 16))
    for number in range(12):
        centre = 7.5 + random_.normal(0, 0.5, 3)
        away = np.linalg.norm(grid - centre[:, None, None, None], axis=0)
        ball = 100.0 * (away < random_.uniform(5, 6.5))
        data = (ball + random_.normal(0, 3, ball.shape)).astype(np.float32)
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        Volume(data, affine).save(folder / f"p{number:02d}.nii.gz")
        Volume((ball > 0).astype(np.uint8), affine).save(folder / f"p{number:02d}_label.nii.gz")
    return folder


def start(scans: Path, out: Path) -> int:
    """Forks a process that trains into a folder, or goes on there."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        logging.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        run_pipeline("train", [f"out={out}", f"data.source={scans}", *_SETTINGS])
        status = 0
    finally:
        os._exit(status)


def stage(out: Path) -> str:
    """How far a training had come when it was killed."""
    if (out / "model" / "config.json").is_file():
        return "model written"
    return f"{newest(out)} volumes"


def newest(out: Path) -> int:
    """Volumes of the newest checkpoint."""
    return max((int(mark.stem) for mark in (out / "checkpoints").glob("*.json")), default=0)


def result(out: Path) -> dict[str, str]:
    """What a training ends with: hashes of its model, and of its metrics but for times."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steady = [
        {key: row[key] for key in row if not key.startswith(("time", "system"))} for row in rows
    ]
    parts = {"metrics": json.dumps(steady).encode()}
    parts |= {p.name: p.read_bytes() for p in (out / "model").iterdir() if p.suffix != ".json"}
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(parts.items())}


def main() -> int:
    """Kills until it has killed often enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("-n", "--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Schedule.checkpoint_every = 4
    scans = write_scans(options.out / "scans")
    began = time.monotonic()
    _, status = os.waitpid(start(scans, options.out / "whole"), 0)
    if status:
        raise SystemExit("the training fails without being killed")
    whole, takes = result(options.out / "whole"), time.monotonic() - began
    draw, kills, trainings, lost = random.Random(options.seed), 0, 0, []
    where: Counter[str] = Counter()
    while kills < options.kills:
        out, saved = options.out / "killed", 0
        while True:
            child = start(scans, out)
            time.sleep(draw.uniform(0, 0.6 * takes))
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if status != signal.SIGKILL:  # it has ended just now
                break
            kills += 1
            where[stage(out)] += 1
            if newest(out) < saved:
                lost.append(f"kill {kills}: a checkpoint of {saved} volumes is gone")
            saved = newest(out)
        if status:
            lost.append(f"training {trainings}: ended with {status}")
        elif (found := result(out)) != whole:
            names = [name for name in whole if found.get(name) != whole[name]]
            lost.append(f"training {trainings}: other {', '.join(names)}")
        trainings += 1
        shutil.rmtree(out)
    record = {
        "kills": kills, "trainings": trainings, "lost": len(lost), "first": lost[:20],
        "killed_after": dict(sorted(where.items())), "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    (options.out / "kills.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
