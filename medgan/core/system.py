"""Main memory and cores of this machine, within a container's limits."""

import math
import platform
from contextlib import suppress
from pathlib import Path

import psutil

_PROCESSORS = Path("/proc/cpuinfo")
_CONTAINER = Path("/sys/fs/cgroup")
"""Limit and use of a Linux container (cgroup v2), which psutil does not know."""


def free_ram() -> int:
    """Bytes of main memory that can still be allocated, within a container's limit."""
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no container, or one without a limit
        used = int((_CONTAINER / "memory.current").read_text())
        usage = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        # The kernel drops cached files when memory gets short, so they count as free.
        free = min(free, _limit() - used + int(usage.get("inactive_file", 0)))
    return max(free, 0)


def total_ram() -> int:
    """Bytes of main memory in total, within a container's limit."""
    total = psutil.virtual_memory().total
    with suppress(OSError, ValueError):
        total = min(total, _limit())
    return total


def core_limit() -> int:
    """Cores that a container may use at a time, rounded up; as many as there are, without one."""
    with suppress(OSError, ValueError):
        quota, period = (_CONTAINER / "cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    return psutil.cpu_count() or 1


def processor_name() -> str:
    """As its maker calls it, or what kind it is where the system does not say."""
    with suppress(OSError, StopIteration):
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    return platform.processor() or platform.machine()


def gigabytes(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:.2f} GiB"


def _limit() -> int:
    return int((_CONTAINER / "memory.max").read_text())
