"""The same scan twice: under another name, compression, orientation, data type or header."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medgan.core.errors import DataError
from medgan.data.manifest import Case

log = logging.getLogger(__name__)


def voxel_hash(data: np.ndarray) -> str:
    """SHA-256 of a scan's voxel values in order of size, as float32.

    Sorted, they are the same in every storage orientation, also where a header states a wrong
    one. Two different scans do not share all their values.

    Args:
        data: voxels, any shape; finite.
    """
    values = np.sort(np.asarray(data, np.float32), axis=None) + np.float32(0)  # -0 becomes 0
    return hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()


class Duplicates:
    """Scans seen so far, by their voxels."""

    def __init__(self) -> None:
        self._seen: dict[str, Case] = {}
        self._same: dict[str, str] = {}

    def add(self, case: Case) -> None:
        """Remembers a scan.

        Raises:
            DataError: E_DUPLICATE when any of its channels was seen before.
        """
        if len(set(case.voxels.values())) < len(case.voxels):
            raise DataError(
                "E_DUPLICATE", case.case, "two channels are one image", "give each channel its own"
            )
        for voxels in case.voxels.values():
            if first := self._seen.get(voxels):
                self._link(first.subject, case.subject)
                raise DataError(
                    "E_DUPLICATE", case.case, f"same voxels as {first.case}", "leave one out"
                )
        self._seen |= dict.fromkeys(case.voxels.values(), case)

    def as_one_subject(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases, with one subject for those that share a scan, so that no split divides them.

        Args:
            cases: those that were not refused.
        """
        changed = [case for case in cases if self._root(case.subject) != case.subject]
        if changed:
            subjects = {case.subject for case in changed}
            log.warning(
                "%d subjects have a scan that is another subject's, too: each pair counts as one "
                "subject", len(subjects),
            )  # fmt: skip
        return tuple(replace(case, subject=self._root(case.subject)) for case in cases)

    def _root(self, subject: str) -> str:
        while subject in self._same:
            subject = self._same[subject]
        return subject

    def _link(self, one: str, other: str) -> None:
        one, other = self._root(one), self._root(other)
        if one != other:
            self._same[other] = one
