"""Real scans as the studies see them: on a model's grid, rounded as synthetic ones are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.data.batches import PreparedVolumes
from medgan.data.manifest import Case, Manifest
from medgan.data.reading import Refuse
from medgan.data.splits import enough_healthy, require_enough


@dataclass(frozen=True)
class RealScans:
    """Scans on one grid.

    Attributes:
        images: (N, 1, X, Y, Z), as `stored` leaves them.
        labelled: (N,), which of them have a label map.
        label_maps: (L, X, Y, Z), of those.
    """

    images: Tensor
    labelled: Tensor
    label_maps: Tensor


def stored(images: Tensor) -> Tensor:
    """Clipped to [-1, 1] and rounded to half precision, as baselines keep their samples.

    Real scans and every generator's go through this before they are compared, so that neither
    rounding nor an overshoot tells one from another.
    """
    return images.float().clamp(-1, 1).half().float()


def preparable(
    cases: Sequence[Case], preprocessing: Preprocessing, out: Path, refuse: Refuse
) -> list[Case]:
    """The cases that can be brought to a grid; the others are refused.

    A study begins with it: whatever it reads of these cases is then in their order.

    Args:
        cases: any number.
        preprocessing: the grid and intensities.
        out: receives the cache.
        refuse: receives the others.
    """
    prepared = PreparedVolumes(cases, preprocessing, out / "cache")
    refuse(prepared.warm())
    return list(prepared.cases)


def with_preparable(
    manifest: Manifest,
    splits: Sequence[str],
    preprocessing: Preprocessing,
    out: Path,
    refuse: Refuse,
) -> Manifest:
    """The manifest without the cases of some splits that cannot be brought to a grid."""
    cases = [case for case in manifest.cases if case.split in splits]
    left = {case.case for case in preparable(cases, preprocessing, out, refuse)}
    return replace(
        manifest,
        cases=tuple(c for c in manifest.cases if c.split not in splits or c.case in left),
    )


def enough_preparable(
    manifest: Manifest,
    split: str,
    fewest: int,
    preprocessing: Preprocessing,
    out: Path,
    refuse: Refuse,
) -> list[Case]:
    """The healthy cases of a split that can be brought to a grid; the others are refused.

    Raises:
        DataError: E_SPLIT when there are fewer than `fewest`.
    """
    cases = preparable(enough_healthy(manifest, split, fewest), preprocessing, out, refuse)
    require_enough(cases, split, fewest)
    return cases


def read_scans(cases: Sequence[Case], preprocessing: Preprocessing, out: Path) -> RealScans:
    """Scans and their label maps on a grid, by way of the cache in `out`.

    Args:
        cases: at least one, all `preparable`.
        preprocessing: the grid and intensities.
        out: receives the cache.
    """
    prepared = PreparedVolumes(cases, preprocessing, out / "cache")
    images = torch.stack([prepared[number][0] for number in range(len(prepared))])
    maps = [prepared.label_map(number) for number in range(len(prepared))]
    found = [label_map for label_map in maps if label_map is not None]
    blank = torch.zeros(0, *images.shape[2:], dtype=torch.int32, device="cpu")
    labelled = torch.tensor([label_map is not None for label_map in maps], device="cpu")
    return RealScans(stored(images), labelled, torch.stack(found) if found else blank)
