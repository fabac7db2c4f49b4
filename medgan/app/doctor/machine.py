"""Device, main memory and disks."""

import os
import shutil
import tempfile
from pathlib import Path

from medgan.app.doctor.finding import Finding
from medgan.core.system import free_ram, gigabytes, total_ram

LEAST_RAM, ENOUGH_RAM = 2 * 2**30, 6 * 2**30
LEAST_DISK, ENOUGH_DISK = 2**30, 10 * 2**30
"""Bytes free below which it is a failure, and below which it is a warning."""


def device() -> Finding:
    """Where networks would run, and what is free there."""
    try:
        import torch

        if torch.cuda.is_available():
            free, whole = torch.cuda.mem_get_info()
            name = torch.cuda.get_device_name()
            return Finding("device", "ok", f"{name}, {_share(free, whole)}")
    except Exception as error:  # a broken installation fails in many ways
        return Finding(
            "device", "failure", f"torch does not work ({type(error).__name__})",
            "install it again: make clean setup",
        )  # fmt: skip
    threads = f"CPU, {os.cpu_count()} cores"
    if _nvidia():
        return Finding(
            "device", "warning", f"{threads}; torch cannot use the GPU that is here",
            "install torch for CUDA (pytorch.org) and a driver that fits it",
        )  # fmt: skip
    return Finding("device", "ok", threads)


def _nvidia() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def memory() -> Finding:
    """Main memory, within a container's limit."""
    free, whole = free_ram(), total_ram()
    level = "ok" if free >= ENOUGH_RAM else "warning" if free >= LEAST_RAM else "failure"
    remedy = (
        "" if level == "ok" else "end other programs; medgan train --dry-run says what it takes"
    )
    return Finding("memory", level, _share(free, whole), remedy)


def disk(name: str, folder: Path) -> Finding:
    """Space where a folder is, or will be."""
    try:
        use = shutil.disk_usage(nearest(folder))
    except OSError as error:
        return Finding(name, "failure", (error.strerror or "cannot be read").lower(), "repair it")
    level = "ok" if use.free >= ENOUGH_DISK else "warning" if use.free >= LEAST_DISK else "failure"
    remedy = "" if level == "ok" else "free some space or choose another folder with -o"
    return Finding(name, level, _share(use.free, use.total), remedy)


def temporary_disk() -> Finding:
    """Space for models that come from MLflow, which are unpacked there."""
    remedy = "set TMPDIR to a folder with space that you may write to"
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return Finding("temporary folder", "failure", "there is none to write to", remedy)
    enough = free >= LEAST_DISK
    what = f"{gigabytes(free)} free"
    level = "ok" if enough else "failure" if free < 2**20 else "warning"
    return Finding("temporary folder", level, what, "" if enough else remedy)


def nearest(folder: Path) -> Path:
    """The folder itself, or the closest one above it that exists."""
    folder = folder.resolve()
    # os.path does not mind a folder that may not be looked into.
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))


def _share(free: int, whole: int) -> str:
    return f"{gigabytes(free)} free of {gigabytes(whole)}"
