"""Those who were trained on and those who were not, as an audit sees them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.core.errors import ConfigError, DataError
from medgan.data.manifest import Case, Manifest
from medgan.data.prepared import read_scans
from medgan.data.splits import in_both
from medgan.evaluation.sets.features import voxel_hashes

FEWEST_MEMBERS, FEWEST_OTHERS = 8, 20


@dataclass(frozen=True)
class People:
    """Everybody's scans on one grid, those trained on first.

    Attributes:
        images: (R, 1, X, Y, Z), as `stored` leaves them.
        member: (R,) whether a scan was trained on.
        person: (R,) number of its subject.
        cases: R of them.
        spacing: of the grid, in mm.
    """

    images: Tensor
    member: Tensor
    person: Tensor
    cases: tuple[Case, ...]
    spacing: tuple[float, float, float]

    @classmethod
    def read(cls, manifest: Manifest, preprocessing: Preprocessing, out: Path) -> "People":
        """The healthy scans of a manifest: its training split, and the two others.

        Args:
            manifest: with splits.
            preprocessing: of the generator.
            out: receives the cache.

        Raises:
            ConfigError: E_LEAK when a subject, a file or the same voxels are on both sides.
            DataError: E_SPLIT with too few people.
        """
        members, others = both_sides(manifest)
        numbers = {subject: n for n, subject in enumerate({c.subject: 0 for c in members + others})}
        person = torch.tensor([numbers[c.subject] for c in members + others], device="cpu")
        member = torch.arange(len(person), device="cpu") < len(members)
        images = read_scans(members + others, preprocessing, out).images
        voxels = voxel_hashes(images)
        same = set(voxels[: len(members)]) & set(voxels[len(members) :])
        if same:
            raise _leak(f"{len(same)} scans, voxel by voxel,")
        return cls(images, member, person, (*members, *others), preprocessing.spacing)

    @property
    def count(self) -> tuple[int, int]:
        """People trained on, and not."""
        return len(self.person[self.member].unique()), len(self.person[~self.member].unique())

    def one_each(self) -> Tensor:
        """Numbers of the first scan of every person who was not trained on."""
        firsts = {int(p): n for n, p in reversed(list(enumerate(self.person)))}
        return torch.tensor(sorted(n for n in firsts.values() if not self.member[n]), device="cpu")


def both_sides(manifest: Manifest) -> tuple[list[Case], list[Case]]:
    """The healthy scans trained on, and the others, unread.

    Raises:
        ConfigError: E_LEAK when a subject or a file is on both sides.
        DataError: E_SPLIT with too few people.
    """
    members = [c for c in manifest.split("train") if c.healthy]
    others = [c for s in ("calibration", "test") for c in manifest.split(s) if c.healthy]
    if both := len(in_both(members, others)):
        raise _leak(f"subjects or files of {both} scans")
    sides = (members, "trained on", FEWEST_MEMBERS), (others, "held out", FEWEST_OTHERS)
    for side, what, few in sides:
        if (found := len({case.subject for case in side})) < few:
            raise DataError(
                "E_SPLIT", f"{found} people {what}", f"{few} are needed, all of them healthy",
                "add scans of more people",
            )  # fmt: skip
    return members, others


def _leak(what: str) -> ConfigError:
    return ConfigError(
        "E_LEAK", "the two sets", f"{what} are on both sides", "hold out people never trained on"
    )
