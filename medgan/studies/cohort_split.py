"""The real scans of an audit: those that a generator was trained on, and held-out ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.core.errors import ConfigError, DataError
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import preparable, read_scans
from medgan.data.reading import Refuse, log_refusals
from medgan.data.splits import in_both
from medgan.evaluation.sets.features import voxel_hashes

FEWEST_MEMBERS, FEWEST_HELD_OUT = 8, 20
HELD_OUT = ("calibration", "test")
"""Splits that a training never sees. Validation scans are neither members nor held out: the weights
are chosen by them."""


@dataclass(frozen=True)
class CohortSplit:
    """Members, the scans of the training split, and held-out scans on one grid.

    Attributes:
        images: (R, 1, X, Y, Z), as `stored` leaves them, members first.
        member: (R,) whether a scan was trained on.
        subject: (R,) number of its subject.
        cases: R of them.
        spacing: of the grid, in mm.
    """

    images: Tensor
    member: Tensor
    subject: Tensor
    cases: tuple[Case, ...]
    spacing: tuple[float, float, float]

    @classmethod
    def read(
        cls,
        manifest: Manifest,
        preprocessing: Preprocessing,
        out: Path,
        refuse: Refuse = log_refusals,
    ) -> "CohortSplit":
        """Reads the healthy scans of a manifest.

        Args:
            manifest: with splits.
            preprocessing: of the generator.
            out: receives the cache.
            refuse: receives scans that cannot be prepared; they are left out.

        Raises:
            ConfigError: E_LEAK when a subject, a file or the same voxels are on both sides.
            DataError: E_SPLIT with too few subjects.
        """
        members, held_out = (
            preparable(side, preprocessing, out, refuse) for side in members_and_held_out(manifest)
        )
        _require_enough(members, held_out)
        cases = members + held_out
        numbers = {subject: n for n, subject in enumerate(dict.fromkeys(c.subject for c in cases))}
        subject = torch.tensor([numbers[case.subject] for case in cases], device="cpu")
        member = torch.arange(len(subject), device="cpu") < len(members)
        images = read_scans(cases, preprocessing, out).images
        voxels = voxel_hashes(images)
        same = set(voxels[: len(members)]) & set(voxels[len(members) :])
        if same:
            raise _leak(f"{len(same)} scans, voxel by voxel,")
        return cls(images, member, subject, tuple(cases), preprocessing.spacing)

    @property
    def count(self) -> tuple[int, int]:
        """Number of subjects: members, and held out."""
        return len(self.subject[self.member].unique()), len(self.subject[~self.member].unique())

    def one_per_subject(self) -> Tensor:
        """Numbers of the first scan of every held-out subject."""
        firsts = {int(p): n for n, p in reversed(list(enumerate(self.subject)))}
        rows = sorted(n for n in firsts.values() if not self.member[n])
        return torch.tensor(rows, device="cpu")


def members_and_held_out(manifest: Manifest) -> tuple[list[Case], list[Case]]:
    """The healthy training scans, and the healthy scans of `HELD_OUT`, unread.

    Raises:
        ConfigError: E_LEAK when a subject or a file is on both sides.
        DataError: E_SPLIT with too few subjects.
    """
    members = [c for c in manifest.split("train") if c.healthy]
    held_out = [c for split in HELD_OUT for c in manifest.split(split) if c.healthy]
    if both := len(in_both(members, held_out)):
        raise _leak(f"subjects or files of {both} scans")
    _require_enough(members, held_out)
    return members, held_out


def _require_enough(members: Sequence[Case], held_out: Sequence[Case]) -> None:
    """Refuses too few subjects on either side.

    Raises:
        DataError: E_SPLIT.
    """
    sides = (members, "trained on", FEWEST_MEMBERS), (held_out, "held out", FEWEST_HELD_OUT)
    for side, what, few in sides:
        if (found := len({case.subject for case in side})) < few:
            raise DataError(
                "E_SPLIT", f"{found} subjects {what}", f"{few} healthy ones are needed",
                "add scans of more subjects",
            )  # fmt: skip


def _leak(what: str) -> ConfigError:
    return ConfigError(
        "E_LEAK", "the two sets", f"{what} are on both sides",
        "hold out subjects that were not trained on",
    )  # fmt: skip
