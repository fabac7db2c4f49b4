"""How the time and the memory of a training step grow with the voxels.

python docs/scripts/growth_of_a_step.py runs/growth [preset=ixi_brain] [edge ...]

Every size in a process of its own, as many cores as are free. Prints a Markdown table and the
exponent of the time, and writes growth.json.
"""

import json
import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from medgan.app.pipeline_files import read_pipeline
from medgan.core.config import Preprocessing, build
from medgan.core.tables import markdown_table
from medgan.core.template import Template
from medgan.training.memory import predict_memory
from medgan.training.steps import average_step
from medgan.training.tasks import chosen_task
from medgan.training.tasks.task import fullest_step

EDGES = (32, 48, 64, 96, 128, 160)
LABELS = {"msd_hippocampus": (1, 2), "phantoms": (1, 2)}
"""Of presets whose scans have label maps."""


def main(out: str, preset: str = "ixi_brain", *edges: str) -> None:
    """Measures cubes of these edges; without any, of `EDGES`; `0` is the preset's own grid."""
    rows = [measured(preset, int(edge)) for edge in edges or map(str, EDGES)]
    cells = [list(row.values()) for row in rows]
    print(markdown_table(list(rows[0]), cells))
    result: dict[str, Any] = {"preset": preset, "rows": rows}
    if len(rows) > 2:
        voxels = [math.log(row["voxels"]) for row in rows]
        seconds = [math.log(row["seconds_per_volume"]) for row in rows]
        result["exponent"] = round(float(np.polyfit(voxels, seconds, 1)[0]), 3)
        print(f"time grows as voxels^{result['exponent']}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(result, indent=1))


def measured(preset: str, edge: int) -> dict[str, Any]:
    """One size, in a fresh process."""
    # glibc returns what is freed, so that the resident memory is what is used.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_measured, preset, edge).result()


def _measured(preset: str, edge: int) -> dict[str, Any]:
    config = build(read_pipeline(preset)[1] | {"out": "unused"})
    given = config.data.shape if isinstance(config.data.shape, tuple) else (32, 32, 32)
    shape = (edge, edge, edge) if edge else given
    template = None
    if config.model.from_template:
        mean = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(np.float32)
        template = Template(mean, np.full_like(mean, 0.2), np.zeros((1, 11), np.float32), 0.9)
    preprocessing = Preprocessing(
        spacing=(1, 1, 1), shape=shape, labels=LABELS.get(preset, ()), template=template,
        align="affine" if template else "none",
    )  # fmt: skip
    predicted = predict_memory(config, preprocessing).peak
    task, cpu = chosen_task(preprocessing, config), torch.device("cpu")
    process, full = psutil.Process(), fullest_step(chosen_task(preprocessing, config))
    torch.nn.Conv3d(1, 1, 3)(torch.zeros(1, 1, 8, 8, 8))  # libraries are loaded
    before = process.memory_info().rss
    state, batch = task.start(cpu), task.example(config.train.batch, cpu)
    seconds: list[float] = []
    for cycle in range(3 if math.prod(shape) > 96**3 else 6):
        started = time.perf_counter()
        for number in range(2):  # with penalty and encoder, and without
            state.volumes_seen = full + number * config.train.batch
            if cycle == 1:
                _forget_peak()
            task.discriminator_step(state, batch)
            task.generator_step(state, batch)
            average_step(state, task.schedule)
            if cycle == 1 and not number:
                peak = _peak() - before  # the first cycle makes gradients and moments
        if cycle:
            seconds.append((time.perf_counter() - started) / 2)
    return {
        "shape": " x ".join(map(str, shape)),
        "voxels": math.prod(shape),
        "seconds_per_volume": round(min(seconds) / config.train.batch, 4),
        "predicted_mib": round(predicted / 2**20),
        "measured_mib": round(peak / 2**20),
        "difference": f"{100 * (predicted / peak - 1):+.0f}%",
    }


def _forget_peak() -> None:
    """From here on, Linux counts the most memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most resident memory since, in bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
