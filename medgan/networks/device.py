"""Where networks compute, and in which precision."""

import time
from functools import cache
from typing import Literal

import torch
from torch import nn

from medgan.core.errors import EnvironmentFailure

Precision = Literal["auto", "bf16", "fp32"]
_CHANNELS, _EDGE, _BATCH, _TRIES = 32, 16, 4, 4


def choose_device(name: str) -> torch.device:
    """`auto` takes the GPU where there is one.

    Raises:
        EnvironmentFailure: E_DEVICE when CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFailure(
            "E_DEVICE", "train.device", "no CUDA device here", "use --set train.device=cpu"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def uses_bf16(precision: Precision, device: str) -> bool:
    """Whether networks run under bf16 autocast.

    Args:
        precision: `auto` takes what is faster: bf16 on a GPU that has it, on a CPU what a
            convolution is faster in; fp32 where a training is to be repeated bit by bit, as a
            measurement of time is another each time.
        device: `auto`, `cpu` or `cuda`.
    """
    if precision != "auto":
        return precision == "bf16"
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return not torch.are_deterministic_algorithms_enabled() and bf16_is_faster()


def fastest(device: torch.device) -> torch.autocast:
    """bf16 autocast where that is faster than fp32, or a context that does nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16("auto", device.type))


@cache
def bf16_is_faster() -> bool:
    """Whether a convolution takes less time in bf16 on this CPU; measured once, in 0.2 s.

    What a processor says of itself does not tell: of two that have instructions for bf16, one was
    four times as fast with them, and the other half as fast (docs/explanation/speed.md).
    """
    layer = nn.Conv3d(_CHANNELS, _CHANNELS, 3, padding=1, device="cpu")
    return _seconds(layer, torch.bfloat16) < _seconds(layer, torch.float32)


def _seconds(layer: nn.Conv3d, kind: torch.dtype) -> float:
    """The shortest time of a convolution, forward and backward."""
    layout = torch.channels_last_3d
    size = (_BATCH, _CHANNELS, _EDGE, _EDGE, _EDGE)
    x = torch.ones(size, dtype=kind, device="cpu").contiguous(memory_format=layout)
    x.requires_grad_(True)
    layer = layer.to(dtype=kind, memory_format=layout)  # pyright: ignore[reportCallIssue]
    best = float("inf")
    for _ in range(_TRIES):
        started = time.perf_counter()
        out = layer(x)
        out.backward(out.detach())
        best = min(best, time.perf_counter() - started)
    return best
