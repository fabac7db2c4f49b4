"""What this machine has: main memory, free and in all."""

import os
from contextlib import suppress
from pathlib import Path


def free_ram() -> int | None:
    """Bytes of main memory that may still be taken, within a container's limit; None if unknown."""
    found = _meminfo("MemAvailable")
    with suppress(OSError, ValueError):  # a container's limit
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{part}").read_text() for part in ("max", "current"))
        found.append(int(limit) - int(used))
    return min(found or _pages(), default=None)


def total_ram() -> int | None:
    """Bytes of main memory in all, within a container's limit; None if unknown."""
    found = _meminfo("MemTotal")
    with suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found or _pages(), default=None)


def gigabytes(count: int) -> str:
    """Bytes as text."""
    return f"{count / 2**30:.2f} GiB"


def _meminfo(name: str) -> list[int]:
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return [1024 * int(line.split()[1]) for line in lines if line.startswith(name)]
    return []


def _pages() -> list[int]:
    with suppress(OSError, ValueError, AttributeError):
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return []
