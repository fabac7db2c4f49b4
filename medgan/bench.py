"""How fast a preset trains on this machine, beside what its convolutions could reach."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from medgan.config import Preprocessing, build
from medgan.data.loaders import BatchStream, PreparedVolumes
from medgan.data.manifest import Case
from medgan.data.plan import plan
from medgan.training.session import choose_device
from medgan.training.state import TrainingState
from medgan.training.steps import average_step, discriminator_step, generator_step
from medgan.volume import Volume

SCANS = 12
_PEAK_CHANNELS = 32


def bench_preset(name: str, values: dict[str, Any], steps: int) -> dict[str, Any]:
    """Times whole training steps on random scans read through the real loader.

    Args:
        name: of the row.
        values: configuration of the preset.
        steps: timed steps, a multiple of the penalty interval; two more warm up.

    Returns:
        volumes_per_second; loading_share, the part of the time that the loop waits for data;
        gflops, the convolutions and matrix products done each second; peak_gflops, bf16
        3 x 3 x 3 convolution of 32 channels at half resolution, forward and backward,
        measured in the same run; parameters of all networks, in millions.
    """
    config = build(values)
    device = choose_device(config.train.device)
    with tempfile.TemporaryDirectory() as temporary:
        cases = _random_scans(Path(temporary), config.data.shape, config.data.spacing)
        # Random scans have no covariates, and conditions cost next to nothing.
        preprocessing = plan(config.data.model_copy(update={"conditions": {}}), cases)
        volumes = PreparedVolumes(cases, preprocessing, Path(temporary) / "cache")
        volumes.warm()
        state = TrainingState.fresh(preprocessing, config.model, config.train, device)
        batches = iter(BatchStream(volumes, config.train.batch, 0))
        waited = 0.0

        def step() -> None:
            nonlocal waited
            for kind in (discriminator_step, generator_step):
                started = time.perf_counter()
                batch = next(batches).to(device)
                waited += time.perf_counter() - started
                kind(state, batch, config.train)
            average_step(state, config.train)

        rounds = config.train.penalty_every
        with _FlopCounter() as counter:
            for _ in range(rounds):
                step()
        flops = counter.total / rounds
        waited, started = 0.0, time.perf_counter()
        steps = rounds * max(1, steps // rounds)
        for _ in range(steps):
            step()
        _wait(device)
        seconds = time.perf_counter() - started
        batches.close()
    networks = list(state.networks.modules().values())
    networks += [state.pair_discriminator] if state.pair_discriminator else []
    return {
        "preset": name,
        "shape": "x".join(map(str, preprocessing.shape)),
        "batch": config.train.batch,
        "volumes_per_second": round(steps * config.train.batch / seconds, 2),
        "loading_share": round(waited / seconds, 4),
        "gflops": round(steps * flops / seconds / 1e9, 1),
        "peak_gflops": round(convolution_peak(preprocessing, config.train.batch, device), 1),
        "parameters_millions": round(
            sum(p.numel() for n in networks for p in n.parameters()) / 1e6, 2
        ),
    }


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
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def convolution_peak(preprocessing: Preprocessing, batch: int, device: torch.device) -> float:
    """GFLOP/s of one bf16 3 x 3 x 3 convolution, channels last, forward and backward."""
    shape = [n // 2 for n in preprocessing.shape]
    layout = torch.channels_last_3d
    layer = torch.nn.Conv3d(_PEAK_CHANNELS, _PEAK_CHANNELS, 3, padding=1)
    layer = layer.to(device, torch.bfloat16, memory_format=layout)  # pyright: ignore
    x = torch.randn(batch, _PEAK_CHANNELS, *shape, dtype=torch.bfloat16, device=device)
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
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _random_scans(
    folder: Path, shape: tuple[int, int, int] | str, spacing: tuple[float, float, float] | str
) -> list[Case]:
    """Scans of noise with two labels: speed does not depend on what is in them."""
    size = (32, 32, 32) if isinstance(shape, str) else shape
    voxel = (1.0, 1.0, 1.0) if isinstance(spacing, str) else spacing
    rng = np.random.default_rng(0)
    cases = []
    for number in range(SCANS):
        image, label = folder / f"{number}.nii.gz", folder / f"{number}_label.nii.gz"
        affine = np.diag([*voxel, 1.0])
        Volume(rng.normal(100, 20, size).astype(np.float32), affine).save(image)
        Volume(rng.integers(0, 3, size).astype(np.uint8), affine).save(label)
        cases.append(
            Case(
                f"c-{number}",
                f"s-{number}",
                str(image),
                str(label),
                f"{number}",
                f"{number}",
                size,
                voxel,
                (1, 2),
                {},
            )
        )
    return cases
