"""One check of a machine with a GPU: tests, speed, memory, the loader and a short training."""

import json
import logging
import math
import platform
import time
import xml.etree.ElementTree as ElementTree  # nosec B405 # reads what our pytest wrote
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from medgan.app.bench import bench, convolution_peak, in_process, most_memory, timed
from medgan.app.pipeline import run_pipeline
from medgan.app.pipeline_files import read_pipeline
from medgan.core.config import Config, Preprocessing, build
from medgan.core.errors import CodedError
from medgan.core.files import write_atomic
from medgan.core.system import processor_name
from medgan.core.version import __version__
from medgan.data.batches import Batch
from medgan.networks.device import choose_device, uses_bf16
from medgan.reporting.device import device_page
from medgan.tracking.tracker import METRICS, read_metrics
from medgan.training.loop import step
from medgan.training.memory import predict_memory
from medgan.training.tasks import chosen_task
from medgan.training.tasks.task import fullest_step

log = logging.getLogger(__name__)
JSON, PAGE, TESTS = "device.json", "device.html", "tests.xml"
_BY_EDGE = ((96, "ixi_brain"), (192, "brain_1mm"), (math.inf, "large_256"))
"""Presets whose networks are for cubes up to these edges."""
_STEPS = 4
_RESERVE = 1.5
"""Minutes of the limit that are kept for preparing the scans of the training."""
Row = dict[str, Any]


class Parts:
    """Parts of the check, of which one that fails stops none.

    Attributes:
        left_out: names of those for which there was no time.

    Args:
        minutes: after which no part is begun.
    """

    def __init__(self, minutes: float) -> None:
        self.left_out: list[str] = []
        self._until = time.monotonic() + 60 * minutes

    def __call__(self, name: str, work: Callable[[], Row]) -> Row | None:
        """What a part found, or why it failed; None where there was no time for it."""
        if time.monotonic() > self._until:
            self.left_out.append(name)
            log.warning("%s: left out, as the time is up", name)
            return None
        log.info("%s", name)
        try:
            return work()
        except (CodedError, RuntimeError, MemoryError) as error:
            log.warning("%s: %s", name, error)
            return {"failed": (str(error).splitlines() or ["no reason given"])[0][:200]}


def check_device(
    out: Path,
    edges: Sequence[int],
    minutes: float,
    limit: float,
    training: str,
    data: str = "",
    device: str = "auto",
) -> Row:
    """Measures what there is time for, and writes device.json and device.html.

    Args:
        out: receives both, and the training; tests.xml of pytest is read from it.
        edges: of the cubes whose steps are timed.
        minutes: of the training; 0 leaves it out.
        limit: minutes of the whole check.
        training: preset that is trained.
        data: scans for it; empty for a preset that makes its own.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        What device.json holds.

    Raises:
        EnvironmentFailure: E_DEVICE when CUDA is asked for and absent.
    """
    began, where = time.monotonic(), choose_device(device)
    part = Parts(limit - minutes - (_RESERVE if minutes else 0))
    loader = part("loader", lambda: _loader(device))
    steps = []
    for edge in edges:
        for task, (config, grid) in kinds(edge, device).items():
            given = timed_step, config, grid, where
            row = part(f"{task} at {edge}³", lambda given=given: in_process(*given))
            if row is not None:
                steps.append({"task": task, "edge": edge, **row})
    trained = None
    if minutes:
        trained = Parts(limit)(
            f"training of {training}",
            lambda: _training(out / "training", training, data, minutes, device),
        )
    found = {
        "machine": machine(where), "tests": _tests(out / TESTS), "loader": loader, "steps": steps,
        "training": trained, "left_out": part.left_out,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    write_atomic(out / JSON, json.dumps(found, indent=1))
    write_atomic(out / PAGE, device_page(found))
    return found


def kinds(edge: int, device: str) -> dict[str, tuple[Config, Preprocessing]]:
    """Configuration and grid of a cube with this edge, for each task that is timed."""
    preset = next(name for most, name in _BY_EDGE if edge <= most)
    shape = (edge, edge, edge)
    found = {}
    for task, name in (("synthesis", preset), ("restoration", "restoration_brain")):
        values = read_pipeline(name)[1]
        sizes = ["model.from_template=false", f"train.device={device}", "out=unused"]
        found[task] = (build(values, sizes), Preprocessing(spacing=(1, 1, 1), shape=shape))
    config = build(read_pipeline("translate_mr_ct")[1], [f"train.device={device}", "out=unused"])
    found["translation"] = (
        config,
        Preprocessing(
            spacing=(1, 1, 1), shape=shape, channels=config.data.channels, patches=True,
            intensity=config.data.intensity, window=config.data.window,
            unseen=config.data.unseen,
        ),
    )  # fmt: skip
    return found


def timed_step(config: Config, grid: Preprocessing, device: torch.device) -> Row:
    """Times whole steps on a random batch; in a fresh process, as the most memory is never less.

    Args:
        config: of the training.
        grid: of its volumes.
        device: where.
    """
    task = chosen_task(grid, config)
    torch.nn.Conv3d(1, 1, 3, device=device)(torch.zeros(1, 1, 8, 8, 8, device=device))  # libraries
    before = most_memory(device)
    state, batch = task.start(device), task.example(config.train.batch, device)
    state.volumes_seen = fullest_step(task)

    def given() -> Batch:
        return batch

    effort = timed(
        lambda: step(task, state, given), math.lcm(*task.periods), _STEPS, device, lambda: 0.0
    )
    bf16 = uses_bf16(config.train.precision, device.type)
    reached = effort.flops / effort.seconds / 1e9
    return {
        "batch": config.train.batch,
        "precision": "bf16" if bf16 else "fp32",
        "volumes_per_second": round(config.train.batch / effort.seconds, 3),
        "gflops": round(reached, 1),
        "memory_mib": round((most_memory(device) - before) / 2**20),
        "forecast_mib": round(predict_memory(config, grid).peak / 2**20),
        "share_of_peak": round(
            reached / convolution_peak(grid, config.train.batch, device, bf16), 3
        ),
    }


def _loader(device: str) -> Row:
    """Steps that wait for scans which are read from the disk."""
    values = read_pipeline("ixi_brain")[1]
    values["train"]["device"] = device
    row = bench("ixi_brain", values, "medgan", 2 * _STEPS)
    return {name: row[name] for name in ("shape", "batch", "volumes_per_second", "waiting")}


def _training(out: Path, preset: str, data: str, minutes: float, device: str) -> Row:
    """A training of so many minutes, with its course."""
    steps = read_pipeline(preset)[0]
    pipeline = out.with_suffix(".yaml")
    until_trained = steps[: steps.index("train") + 1]
    write_atomic(pipeline, yaml.safe_dump({"extends": preset, "steps": until_trained}))
    settings = [f"out={out}", f"train.device={device}", f"train.minutes={minutes:g}"]
    source = [f"data.source={data}"] if data else []
    run_pipeline(str(pipeline), [*settings, *source, "tracking.uri=none"], replace=True)
    shown = ("samples/kernel_distance", "time/volumes_per_second", "time/loading_share")
    rows = list(read_metrics(out / METRICS))
    course = {
        name: [(row["volumes_seen"], row[name]) for row in rows if name in row] for name in shown
    }
    speeds = [value for _, value in course["time/volumes_per_second"]]
    shares = [value for _, value in course["time/loading_share"]]
    return {
        "preset": preset,
        "minutes": minutes,
        "volumes": rows[-1]["volumes_seen"],
        "volumes_per_second": round(sum(speeds) / len(speeds), 3),
        "waiting": round(sum(shares) / len(shares), 4),
        "kernel_distance": course["samples/kernel_distance"],
        "picture": max((str(p.name) for p in (out / "samples").glob("*.png")), default=""),
    }


def machine(device: torch.device) -> Row:
    """The processor or card, and versions."""
    found = {
        "device": device.type, "name": processor_name(),
        "torch": torch.__version__, "python": platform.python_version(), "medgan": __version__,
    }  # fmt: skip
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {"name": card.name, "memory_gib": round(card.total_memory / 2**30, 1)}
        found |= {"cuda": torch.version.cuda, "cards": torch.cuda.device_count()}
    return found


def _tests(path: Path) -> Row | None:
    """How pytest ended, from its JUnit file; None without one."""
    if not path.is_file():
        return None
    written = ElementTree.parse(path).getroot()  # nosec B314 # by the pytest of make gpu-check
    suites = list(written.iter("testsuite"))
    counts = {
        name: sum(int(suite.get(name, "0")) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    }
    failed = [
        case.get("name", "")
        for case in written.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return {**counts, "failed": failed}
