"""Scans over time: a 4D file becomes a scan for each of its phases."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from medgan.core.announced import Announced, refuse_bomb
from medgan.core.errors import DataError
from medgan.core.nifti import NiftiFile, read_sequence
from medgan.core.timing import Timing
from medgan.core.volume import SYNTHETIC, Volume
from medgan.data.converted import write_converted
from medgan.data.layouts.listed import Listed
from medgan.data.layouts.phases import PHASE, TIME
from medgan.data.manifest import Case

log = logging.getLogger(__name__)
SEQUENCE = "E_SEQUENCE"
"""What a file that was read as one volume turns out to be."""
PHASES = "phases"
"""The folder of the phases of 4D files, beside that of converted series."""


class Sequences:
    """Replaces 4D files by a private 3D file for each of their phases.

    One sequence is in memory at a time: its phases are made ready before the next is expanded.

    Args:
        folder: receives the files, under pseudonyms and readable by the owner only; None where
            sequences are not accepted.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder.absolute()
        self._images: dict[str, NiftiFile] = {}
        self._label: NiftiFile | None = None

    def expand(self, listed: Listed, fault: DataError) -> list[Listed]:
        """The phases of a scan that turned out to be a sequence, with place and time of each.

        Args:
            listed: whose files are 4D.
            fault: what reading it as one volume gave, which names it.

        Raises:
            DataError: the same fault where sequences are not accepted; E_SEQUENCE where image
                channels or label map have other phases; or why a file is refused.
        """
        if self._folder is None:
            raise fault
        case = fault.where

        def look(found: Announced) -> None:
            refuse_bomb(found.in_memory, found.stored, case)

        read = {name: read_sequence(path, case, look) for name, path in listed.images.items()}
        self._images = {name: file for name, (file, _) in read.items()}
        timing = next(iter(read.values()))[1]
        lengths = {timing.phases for _, timing in read.values()}
        self._label = None
        if listed.label is not None:
            self._label, labelled = read_sequence(listed.label, case)
            lengths.add(labelled.phases)
        if len(lengths) > 1:
            raise DataError(
                "E_SEQUENCE", case, "its files have different numbers of volumes",
                "give a 4D file of as many volumes for each channel and label map",
            )  # fmt: skip
        for note in dict.fromkeys(note for file in self._images.values() for note in file.notes):
            log.warning("%s", note)
        return [_phase(listed, timing, number) for number in range(timing.phases)]

    def ready(self, listed: Listed, case: str) -> Listed:
        """A phase with files of its own; any other scan as it is.

        A phase whose label map is empty, while that of another phase is not, has none: experts
        outline a few phases of many.

        Args:
            listed: as `expand` gave it.
            case: its pseudonym.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        if listed.phase is None:
            return listed
        images = {
            name: self._written(file, listed.phase, f"{case}_{n}" if n else case)
            for n, (name, file) in enumerate(self._images.items())
        }
        label = None
        if self._label is not None and self._label.volume.data[..., listed.phase].any():
            label = self._written(self._label, listed.phase, f"{case}_label")
        return replace(listed, images=images, label=label, root=None)

    def _written(self, file: NiftiFile, phase: int, name: str) -> Path:
        assert self._folder is not None
        path = self._folder / f"{name}.nii.gz"
        volume = Volume(np.ascontiguousarray(file.volume.data[..., phase]), file.volume.affine)
        write_converted(volume, path, SYNTHETIC if file.volume.is_synthetic else "")
        return path


def _phase(listed: Listed, timing: Timing, number: int) -> Listed:
    known = dict(listed.covariates) | {PHASE: f"{number / timing.phases:.6g}"}
    if timing.step:
        known[TIME] = f"{timing.start + number * timing.step:.6g}"
    return replace(
        listed, name=f"{listed.name}_phase-{number:03d}", sequence=listed.name, phase=number,
        covariates=tuple(known.items()),
    )  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """What a data set holds of sequences.

    Attributes:
        subjects: that have any.
        sequences: how many there are.
        phases: fewest and most of a sequence.
        step_s: shortest and longest time from one phase to the next, in seconds; None where no
            header says.
    """

    subjects: int
    sequences: int
    phases: tuple[int, int]
    step_s: tuple[float, float] | None

    @property
    def text(self) -> str:
        """In words, such as `4 subjects, 4 sequences of 20 phases, 0.034 to 0.051 s apart`."""
        apart = "their times unknown"
        if self.step_s is not None:
            apart = f"{_span(self.step_s)} s apart"
        return (
            f"{self.subjects} subjects, {self.sequences} sequences of {_span(self.phases)} phases, "
            f"{apart}"
        )


def summary(cases: Iterable[Case]) -> Summary | None:
    """The sequences among the cases; None without any."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.sequence:
            found[case.sequence].append(case)
    if not found:
        return None
    lengths = [len(phases) for phases in found.values()]
    steps: list[float] = []
    for phases in found.values():
        times = sorted(float(c.covariates[TIME]) for c in phases if TIME in c.covariates)
        steps += [round(b - a, 6) for a, b in pairwise(times)]
    return Summary(
        len({phases[0].subject for phases in found.values()}), len(found),
        (min(lengths), max(lengths)), (min(steps), max(steps)) if steps else None,
    )  # fmt: skip


def _span(values: tuple[float, float] | tuple[int, int]) -> str:
    low, high = values
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
