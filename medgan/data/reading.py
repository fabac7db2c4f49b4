"""The files of a case of the manifest, read and checked once."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TypeVar

import psutil

from medgan.core.errors import DataError, of_scan
from medgan.data.checks import CheckedScan, check_scan
from medgan.data.manifest import Case, Refusal

T = TypeVar("T")
Refuse = Callable[[Sequence[Refusal]], None]
"""Receives the scans that are left out, with the reasons."""
log = logging.getLogger(__name__)


def read_case(case: Case, labels: bool = True) -> CheckedScan:
    """Reads all files of a case and checks that they are those of the manifest.

    Args:
        case: from a manifest.
        labels: whether its label map is read, if it has one.

    Raises:
        DataError: E_MANIFEST when a file has changed, or why it is refused.
    """
    label = Path(case.label) if case.label and labels else None
    images = {name: Path(path) for name, path in case.images.items()}
    scan = check_scan(images, label, case.case)
    if not _is_of(scan, case):
        raise DataError(
            "E_MANIFEST", case.case, "the file is not the one that was checked",
            "run medgan check again",
        )  # fmt: skip
    return scan


def usable(cases: Sequence[Case], work: Callable[[Case], T]) -> tuple[Iterator[T], list[Refusal]]:
    """What the work gives for each case, one by one; a case in which it fails is refused.

    Args:
        cases: from a manifest.
        work: on one of them.

    Returns:
        The results, and the refusals, which are complete once the results are used up.
    """
    refusals: list[Refusal] = []

    def results() -> Iterator[T]:
        for case in cases:
            try:
                with of_scan(case.case):
                    result = work(case)
            except DataError as error:
                refusals.append(Refusal(case.case, error.code, error.what, error.remedy))
            else:
                yield result

    return results(), refusals


def log_refusals(refusals: Sequence[Refusal]) -> None:
    """Warns of scans that are left out, where nothing else records them."""
    for refusal in refusals:
        log.warning("left out %s %s: %s", refusal.code, refusal.case, refusal.what)


class ReadScans:
    """Scans that were read and checked, kept for the steps to come: a file is not read twice.

    Scans are kept while they fit. One that does not fit is read and checked again when it is used.

    Args:
        limit: bytes to keep; half of the free memory unless given.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._free = psutil.virtual_memory().available // 2 if limit is None else limit
        self._kept: dict[str, CheckedScan] = {}
        self._one_at_a_time = Lock()

    def keep(self, case: str, scan: CheckedScan) -> None:
        """Keeps a scan under its pseudonym, if it fits."""
        volumes = [*scan.volumes, *([scan.label.volume] if scan.label else [])]
        size = sum(volume.data.nbytes for volume in volumes)
        with self._one_at_a_time:
            if size <= self._free and case not in self._kept:
                self._free -= size
                self._kept[case] = scan

    def read(self, case: Case, labels: bool = True) -> CheckedScan:
        """The files of a case, as `read_case` gives them."""
        kept = self._kept.get(case.case)
        if kept is not None and _is_of(kept, case):
            return kept
        return read_case(case, labels)

    def clear(self) -> None:
        """Gives the memory back; from here on nothing is kept."""
        self._kept.clear()
        self._free = 0


def _is_of(scan: CheckedScan, case: Case) -> bool:
    """Whether what was read has the hashes of the manifest."""
    if {name: file.sha256 for name, file in scan.images.items()} != case.hashes:
        return False
    return scan.label is None or scan.label.sha256 == case.label_sha256
