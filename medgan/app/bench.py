"""How fast presets and baselines train on this machine, and in how much memory."""

import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from medgan.core.config import Config, Preprocessing, build
from medgan.core.tables import markdown_table
from medgan.core.template import Template
from medgan.core.volume import Volume
from medgan.data.batches import BatchStream, PreparedVolumes
from medgan.data.index import index
from medgan.data.manifest import Case
from medgan.data.plan import plan
from medgan.data.pseudonyms import Pseudonyms
from medgan.networks.device import choose_device, uses_bf16
from medgan.studies.generated_sets import BASELINES
from medgan.training.loop import Waiting, step
from medgan.training.tasks import chosen_task

SCANS = 12
MEDGAN = "medgan"
_PEAK_CHANNELS = 32
Row = dict[str, Any]


class Effort(NamedTuple):
    """What steps took.

    Attributes:
        seconds: a step.
        flops: floating-point operations of a step, convolutions and matrix products.
        waited: share of the time that was waited for data.
    """

    seconds: float
    flops: float
    waited: float


def bench(preset: str, values: dict[str, Any], generator: str, steps: int) -> Row:
    """Times whole training steps, in a process of its own so that its memory can be measured.

    Args:
        preset: name for the table.
        values: configuration of the preset.
        generator: `medgan` or the name of a baseline.
        steps: timed steps; medgan's are rounded to whole penalty intervals.

    Returns:
        milliseconds_per_step; volumes_per_second; peak_mib, the most memory beyond what the
        process took before there were networks (on a GPU, the most allocated); gflops done each
        second; precision; share_of_peak, of the 3 x 3 x 3 convolution of 32 channels at half
        resolution in that precision, forward and backward, measured in the same process; waiting,
        the share of the time without data; parameters of all networks, in millions.
    """
    return in_process(_bench, preset, values, generator, steps)


def in_process(work: Callable[..., Row], *given: Any) -> Row:  # noqa: ANN401 - of any function
    """What a function gives in a process of its own, so that its memory can be measured."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(work, *given).result()


def _bench(preset: str, values: dict[str, Any], generator: str, steps: int) -> Row:
    config = build(values)
    device = choose_device(config.train.device)
    with tempfile.TemporaryDirectory() as temporary:
        cases = _random_scans(Path(temporary), config.data.shape, config.data.spacing)
        # Random scans have no covariates, and conditions cost next to nothing.
        plain = {"conditions": {}, "align": "none", "brain": "none", "bias": "none"}
        preprocessing = plan(config.data.model_copy(update=plain), cases)
        if config.model.from_template:
            preprocessing = preprocessing.model_copy(update={"template": _template(preprocessing)})
        volumes = PreparedVolumes(cases, preprocessing, Path(temporary) / "cache")
        volumes.warm()
        before = most_memory(device)
        if generator == MEDGAN:
            batch = config.train.batch
            effort, networks = _bench_medgan(config, preprocessing, volumes, steps, device)
        else:
            batch = BASELINES[generator].batch
            effort, networks = _bench_baseline(generator, preprocessing, volumes, steps, device)
        peak = most_memory(device) - before
    precision = config.train.precision if generator == MEDGAN else "auto"
    bf16 = uses_bf16(precision, device.type)
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    reached = effort.flops / effort.seconds / 1e9
    return {
        "preset": preset,
        "generator": generator,
        "shape": "x".join(map(str, preprocessing.shape)),
        "batch": batch,
        "milliseconds_per_step": round(1000 * effort.seconds),
        "volumes_per_second": round(batch / effort.seconds, 2),
        "peak_mib": round(peak / 2**20),
        "gflops": round(reached, 1),
        "precision": "bf16" if bf16 else "fp32",
        "share_of_peak": round(reached / convolution_peak(preprocessing, batch, device, bf16), 2),
        "waiting": round(effort.waited, 3),
        "parameters_millions": round(parameters / 1e6, 2),
    }


def _bench_medgan(
    config: Config,
    preprocessing: Preprocessing,
    volumes: PreparedVolumes,
    steps: int,
    device: torch.device,
) -> tuple[Effort, list[nn.Module]]:
    """Steps as in training, read through the real loader."""
    task = chosen_task(preprocessing, config)
    state = task.start(device)
    batches = iter(BatchStream(volumes, config.train.batch, 0, prepare=task.arrays))
    waiting = Waiting(batches, device)
    effort = timed(
        lambda: step(task, state, waiting),
        math.lcm(*task.periods),
        steps,
        device,
        lambda: waiting.seconds,
    )
    batches.close()
    return effort, list(state.all_networks().values())


def _bench_baseline(
    name: str,
    preprocessing: Preprocessing,
    volumes: PreparedVolumes,
    steps: int,
    device: torch.device,
) -> tuple[Effort, list[nn.Module]]:
    """Steps of a baseline, on volumes that are in memory, as in its training."""
    baseline = BASELINES[name](preprocessing.shape, 0, device)
    images = torch.stack([volumes[i][0] for i in range(baseline.batch)])
    images = images.to(device, memory_format=torch.channels_last_3d)
    random = torch.Generator().manual_seed(0)
    effort = timed(lambda: baseline.step(images, random), 1, steps, device, lambda: 0.0)
    return effort, baseline.networks()


def timed(
    step: Callable[[], object],
    interval: int,
    steps: int,
    device: torch.device,
    waited: Callable[[], float],
) -> Effort:
    """Counts the operations of one interval of steps, which also warms up; then times."""
    with _FlopCounter() as counter:
        for _ in range(interval):
            step()
    _wait(device)
    before, started = waited(), time.perf_counter()
    steps = interval * max(1, steps // interval)
    for _ in range(steps):
        step()
    _wait(device)
    seconds = time.perf_counter() - started
    return Effort(seconds / steps, counter.total / interval, (waited() - before) / seconds)


def most_memory(device: torch.device) -> int:
    """The most bytes that this process has taken so far, on the GPU where it runs on one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _FlopCounter(TorchDispatchMode):
    """Floating-point operations of everything inside, by torch's own formulas.

    torch's FlopCounterMode hooks modules, which fails under the second derivative of a
    gradient penalty; the formulas alone do not need hooks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if func.overloadpacket is torch.ops.aten.mkldnn_convolution:  # which torch does not know
            self.total += 2 * out.numel() * args[1][0].numel()
        elif formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def convolution_peak(
    preprocessing: Preprocessing, batch: int, device: torch.device, bf16: bool
) -> float:
    """GFLOP/s of one 3 x 3 x 3 convolution, channels last, forward and backward."""
    shape, kind = [n // 2 for n in preprocessing.shape], torch.bfloat16 if bf16 else torch.float32
    layout = torch.channels_last_3d
    layer = torch.nn.Conv3d(_PEAK_CHANNELS, _PEAK_CHANNELS, 3, padding=1)
    layer = layer.to(device, kind, memory_format=layout)  # pyright: ignore
    x = torch.randn(batch, _PEAK_CHANNELS, *shape, dtype=kind, device=device)
    x = x.contiguous(memory_format=layout).requires_grad_(True)
    flops = 3 * 2 * 27 * _PEAK_CHANNELS**2 * batch * int(np.prod(shape))
    best = float("inf")
    for _ in range(8):
        _wait(device)
        started = time.perf_counter()
        out = layer(x)
        out.backward(out)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return flops / best / 1e9


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    return markdown_table(names, [[row[name] for name in names] for row in rows])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _template(preprocessing: Preprocessing) -> Template:
    """Of noise, for networks that make samples of one."""
    shape = (len(preprocessing.channels), *preprocessing.shape)
    mean = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    return Template(mean, np.full_like(mean, 0.2), np.zeros((shape[0], 11), np.float32), 1.0)


def _random_scans(
    folder: Path, shape: tuple[int, int, int] | str, spacing: tuple[float, float, float] | str
) -> list[Case]:
    """Scans of noise with two labels: speed does not depend on what is in them."""
    size = (32, 32, 32) if isinstance(shape, str) else shape
    voxel = (1.0, 1.0, 1.0) if isinstance(spacing, str) else spacing
    rng = np.random.default_rng(0)
    for number in range(SCANS):
        image, label = folder / f"{number}.nii.gz", folder / f"{number}_label.nii.gz"
        affine = np.diag([*voxel, 1.0])
        Volume(rng.normal(100, 20, size).astype(np.float32), affine).save(image)
        Volume(rng.integers(0, 3, size).astype(np.uint8), affine).save(label)
    manifest, _ = index(folder, Pseudonyms(b"bench"))
    return list(manifest.cases)
