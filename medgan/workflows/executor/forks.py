"""The process that workers are forked from: it has imported what they need."""

import multiprocessing
from itertools import islice
from multiprocessing.context import BaseContext
from pathlib import Path

from medgan.core.system import core_limit

_PRELOADED = ["medgan.workflows.score", "medgan.workflows.translate", "medgan.workflows.generate"]
FEWEST = 16
"""Scans in a folder from which workers are likely."""


def context() -> BaseContext:
    """Forks of a process without threads where there can be one, else processes of their own."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(_PRELOADED)
    return found


def expect_workers(source: str, engine: str, workers: int | None) -> None:
    """Lets that process begin its imports beside this one's, where there are likely to be workers.

    To be called before anything heavy is imported: imports take longer than most scans.

    Args:
        source: what is to be read; a folder of NIfTI files lets workers be likely.
        engine: as the user named it.
        workers: likewise; None where the program chooses.
    """
    if engine not in ("", "local") or workers == 1 or core_limit() < 2:
        return
    if not workers:
        scans = Path(source).glob("**/*.nii*") if Path(source).is_dir() else ()
        if sum(1 for _ in islice(scans, FEWEST)) < FEWEST:
            return
    if context().get_start_method() == "forkserver":
        from multiprocessing import forkserver  # not on Windows

        forkserver.ensure_running()
