"""Tables of docs/explanation/growth.md: what many scans and large volumes cost.

python docs/scripts/growth.py

Memory and parameters are medgan's own forecast, computed here. Other figures are those of
docs/explanation/speed.md, and assumptions, which are named so.
"""

from collections.abc import Sequence

import torch

from medgan.app.pipeline import read_pipeline
from medgan.core.config import Preprocessing, build
from medgan.training.memory import predict_memory
from medgan.training.tasks import chosen_task

FLOP_A_VOXEL = 410e9 * 1.879 / 4 / (80 * 96 * 80)
"""Of a training, `ixi_brain_2mm` in speed.md: GFLOP/s, seconds a step, batch, voxels."""
READ_A_VOXEL = 0.48 / (182 * 218 * 182)
"""Processor seconds to read and check a scan (speed.md, a brain at 1 mm)."""
SCORE_BRAIN, SCORE_HEAD = 4.3, 12.8
"""Processor seconds a scan at 1 mm without start-up, pages included (speed.md)."""
FILE_A_VOXEL = (0.30, 0.81)
"""Bytes of NIfTI a voxel, gzipped: stripped brains in integers; MR and CT in 32 bits."""
FLOPS = 50e12
"""Assumed: what a GPU reaches in these convolutions, a twentieth of an H100's peak in bf16."""
NETWORK = {"one machine": 100e9, "100 Gbit/s": 10e9, "10 Gbit/s": 1e9}
"""Assumed: bytes a second between GPUs that a ring of them reaches."""
LAUNCH = 0.03
"""Assumed: seconds a step that no GPU shortens: launching a few thousand kernels, talking."""
GPU_HOUR, CORE_HOUR, TERABYTE_MONTH = 2.5, 0.05, 20.0
"""Assumed prices in dollars."""
SIZES = (64, 128, 256, 512)
GPUS = (1, 8, 64)


def described(size: int) -> tuple[float, float]:
    """GiB of a step and millions of parameters, forecast for `large_256` at another size."""
    settings = read_pipeline("large_256")[1]
    config = build(settings, [f"data.shape=[{size},{size},{size}]"])
    grid = Preprocessing(spacing=(1, 1, 1), shape=(size, size, size))
    state = chosen_task(grid, config).start(torch.device("cpu"))
    weights = sum(p.numel() for net in state.all_networks().values() for p in net.parameters())
    del state
    return predict_memory(config, grid).peak / 2**30, weights / 1e6


def seconds_a_volume(size: int, gpus: int, weights: float, network: float, share: int = 2) -> float:
    """Of a training: computing, adding up gradients in a ring, and what each step takes anyhow.

    Args:
        size: edge in voxels.
        gpus: that train together.
        weights: parameters in millions; gradients are in fp32.
        network: bytes a second.
        share: volumes a GPU and a step.
    """
    computing = share * FLOP_A_VOXEL * size**3 / FLOPS
    adding = 2 * (gpus - 1) / gpus * 4e6 * weights / network
    return (computing + adding + LAUNCH) / (share * gpus)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def clock(hours: float) -> str:
    """Hours or days."""
    return f"{hours:.2g} h" if hours < 100 else f"{hours / 24:,.0f} d"


def training(known: dict[int, tuple[float, float]]) -> str:
    """Time and money of 1,000,000 volumes."""
    rows = []
    for size in SIZES:
        memory, weights = known[size]
        row = [
            f"{size}³",
            f"{weights:.1f}",
            f"{memory:.1f}",
            f"{FLOP_A_VOXEL * size**3 / 1e12:.2f}",
        ]
        for gpus in GPUS:
            network = NETWORK["one machine" if gpus <= 8 else "100 Gbit/s"]
            hours = 1e6 * seconds_a_volume(size, gpus, weights, network) / 3600
            row.append(f"{clock(hours)}, {GPU_HOUR * hours * gpus:,.0f} $")
        rows.append(row)
    head = [
        "size",
        "parameters (M)",
        "GiB a GPU",
        "TFLOP a volume",
        "1 GPU",
        *(f"{n} GPUs" for n in GPUS[1:]),
    ]
    return table(head, rows)


def adding_up(known: dict[int, tuple[float, float]]) -> str:
    """Share of a step on 64 GPUs that is spent on gradients, and what is read meanwhile."""
    rows = []
    for size in SIZES:
        weights, row = known[size][1], [f"{size}³"]
        for network in NETWORK.values():
            whole = seconds_a_volume(size, 64, weights, network)
            row.append(f"{1 - seconds_a_volume(size, 64, 0, network) / whole:.0%}")
        rate = 1 / seconds_a_volume(size, 64, weights, NETWORK["100 Gbit/s"])
        rows.append([*row, f"{rate:,.0f}", f"{4 * size**3 * rate / 1e9:.1f}"])
    networks = [f"gradients, {name}" for name in NETWORK]
    return table(["size", *networks, "volumes a second", "GB/s of voxels in fp32"], rows)


def cohort() -> str:
    """Storage, reading and scoring of scans of 1 mm, 182 x 218 x 182 voxels."""
    voxels, rows = 182 * 218 * 182, []
    for scans in (10_000, 1_000_000):
        low, high = (scans * voxels * bytes_ / 1e12 for bytes_ in FILE_A_VOXEL)
        hours = [scans * s / 3600 for s in (READ_A_VOXEL * voxels, SCORE_BRAIN, SCORE_HEAD)]
        rows.append([
            f"{scans:,}", f"{low:.2g} to {high:.2g} TB",
            f"{low * TERABYTE_MONTH:,.0f} to {high * TERABYTE_MONTH:,.0f} $",
            f"{high * 1e12 / 1.25e8 / 3600:.2g} h", *(f"{h:,.0f}" for h in hours),
            f"{clock(hours[1] / 64)} to {clock(hours[2] / 64)}",
            f"{hours[1] * CORE_HOUR:,.0f} to {hours[2] * CORE_HOUR:,.0f} $",
        ])  # fmt: skip
    return table(
        ["scans", "files", "a month", "over 1 Gbit/s", "core hours: check", "score, brains",
         "score, heads", "score on 64 cores", "price"], rows,
    )  # fmt: skip


if __name__ == "__main__":
    found = {size: described(size) for size in SIZES}
    for text in (training(found), adding_up(found), cohort()):
        print(text, end="\n\n")
