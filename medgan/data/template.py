"""A template learned from training scans, and kept on disk."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load, save

from medgan.core.config import DataConfig, Preprocessing
from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.progress import counting
from medgan.core.template import PERCENTILES, Template, anatomy, floored
from medgan.core.volume import Volume
from medgan.data.align import FINE, Aligner, Kind, centred, reduced
from medgan.data.alignment import Alignment
from medgan.data.checks import CheckedScan
from medgan.data.cleaning import clean
from medgan.data.deformation import bent, deformation
from medgan.data.intensities import intensity_scale, registered
from medgan.data.manifest import Case
from medgan.data.plan import plan
from medgan.data.reading import read_case, usable
from medgan.data.standardise import landmark_scale, landmarks, scaled, without_shading

if TYPE_CHECKING:
    import SimpleITK as sitk

log = logging.getLogger(__name__)
Read = Callable[[Case, bool], CheckedScan]
_ROUNDS: tuple[Kind, ...] = ("rigid", "rigid", "affine", "affine")
_EARLY, _MOST = 24, 60
"""Scans of the first rounds, and of the last one."""
_BENDS = 2
"""Rounds in which scans are bent to their mean."""
_VALUES = 2**28
"""Voxels of all scans of the last round: 1 GiB."""
_NEVER = 0.0
"""Agreement that no alignment falls far below: of a mean that is not sharp yet."""


def aligned_plan(
    config: DataConfig, cases: Sequence[Case], folder: Path, read: Read = read_case
) -> Preprocessing:
    """The preprocessing of a model that learns from these scans, with its template if it aligns.

    Args:
        config: the data section.
        cases: the training cases.
        folder: keeps the template, so that a training that was stopped goes on with the same.
        read: gives the checked files of a case.

    Raises:
        ConfigError, DataError: of `plan`, of `learn_template`.
    """
    preprocessing = plan(config, cases)
    if preprocessing.align == "none":
        return preprocessing
    policy = preprocessing.model_dump_json(exclude={"conditions", "labels"})
    key = json.dumps([sorted(case.sha256 for case in cases), policy])
    path = folder / f"template-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    template = None
    with suppress(OSError, SafetensorError, KeyError, ValueError):
        template = unpacked(load(path.read_bytes()))
    if template is None:
        template = learn_template(cases, preprocessing, read)
        write_atomic(path, save(packed(template)), private=True)
    return preprocessing.model_copy(update={"template": template})


def packed(template: Template) -> dict[str, np.ndarray]:
    """Its arrays by name, for a file; in half precision where nothing is lost by it."""
    return {
        "mean": _halved(template.mean), "spread": _halved(template.spread),
        "landmarks": template.landmarks,
        "agreement": np.array([template.agreement], np.float32),
    }  # fmt: skip


def _halved(values: np.ndarray) -> np.ndarray:
    half = np.ascontiguousarray(values, np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else np.ascontiguousarray(values)


def unpacked(arrays: dict[str, np.ndarray]) -> Template:
    """What `packed` gave; KeyError for anything else."""
    mean, spread, marks = (
        np.asarray(arrays[name], np.float32) for name in ("mean", "spread", "landmarks")
    )
    return Template(mean, spread, marks, float(arrays["agreement"][0]))


def learn_template(
    cases: Sequence[Case], preprocessing: Preprocessing, read: Read = read_case
) -> Template:
    """The mean of training scans, each aligned to the mean of the round before.

    It begins with scans about the centre of their foreground. Intensities are scaled by windows or
    percentiles first, then brought to the mean landmarks of these.

    Args:
        cases: training cases; up to `_MOST` of them, evenly over the list, are used.
        preprocessing: the grid, and how scans are aligned.
        read: gives the checked files of a case.

    Raises:
        DataError: E_SPLIT when no scan can be read.
    """
    assert preprocessing.align != "none"
    room = max(8, _VALUES // (int(np.prod(preprocessing.shape)) * len(preprocessing.channels)))
    mean, size, agreement = _coarse_mean(_some(cases, _EARLY), preprocessing, read)
    grid = preprocessing.shape, preprocessing.spacing
    aligner = Aligner(mean, (size,) * 3, preprocessing.align, agreement, grid)
    channels: list[list[np.ndarray]] = []
    agreements = []
    with counting("template") as tick:
        chosen = _some(cases, min(_MOST, room))
        for volumes in _read(chosen, preprocessing, read):
            alignment = aligner(registered(volumes[0], preprocessing))
            agreements.append(alignment.agreement)
            channels.append([alignment.forward(volume.data) for volume in volumes])
            tick(len(channels), len(chosen))
    parts = [
        _channel([scan[number] for scan in channels], name, preprocessing)
        for number, name in enumerate(preprocessing.channels)
    ]
    volumes, marks = zip(*parts, strict=True)
    if preprocessing.align == "deformable":
        volumes = _bent_to_their_mean(volumes)
    means, spreads = (  # in half precision, in which they are kept
        np.stack([f(one, axis=0) for one in volumes]).astype(np.float16).astype(np.float32)
        for f in (np.mean, np.std)
    )
    found = Template(means, spreads, np.stack(marks), float(np.median(agreements)))
    log.info("template of %d scans, which agree with it by %.3f", len(channels), found.agreement)
    return found


def _some(cases: Sequence[Case], most: int) -> list[Case]:
    """Up to so many cases, evenly over the list."""
    numbers = np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)
    return [cases[number] for number in numbers]


def _read(
    cases: Sequence[Case], preprocessing: Preprocessing, read: Read
) -> Iterator[tuple[Volume, ...]]:
    """The channels of those that can be read; others are refused when they are prepared."""

    def volumes(case: Case) -> tuple[Volume, ...]:
        source = read(case, False).volumes
        part = clean(source, preprocessing, case.case)
        return tuple(source) if part is None else part.volumes

    return usable(cases, volumes)[0]


def _coarse_mean(
    cases: Sequence[Case], preprocessing: Preprocessing, read: Read
) -> tuple[Float[np.ndarray, "x y z"], float, float]:
    """A mean scan at low resolution, the edge of its voxels in mm, and how well scans agree.

    Raises:
        DataError: E_SPLIT when no scan can be read.
    """
    extent = np.multiply(preprocessing.shape, preprocessing.spacing)
    size = max(float(extent.max()) / FINE, min(preprocessing.spacing))
    x, y, z = (max(1, round(float(mm) / size)) for mm in extent)
    scans = [
        _scaled(reduced(volumes[0], size), preprocessing)
        for volumes in _read(cases, preprocessing, read)
    ]
    if not scans:
        raise DataError("E_SPLIT", "the training scans", "none can be read", "run medgan check")
    found = [centred(scan, (x, y, z), (size,) * 3) for scan in scans]
    agreement = _NEVER
    for kind in _ROUNDS[:2] if preprocessing.align == "rigid" else _ROUNDS:
        mean = _mean(scans, found)
        aligner = Aligner(mean, (size,) * 3, kind, agreement)
        found = [aligner(scan) for scan in scans]
        agreement = float(np.median([one.agreement for one in found]))
    return _mean(scans, found), size, agreement


def _scaled(volume: Volume, preprocessing: Preprocessing) -> Volume:
    data = np.asarray(volume.data, np.float32)
    scale = intensity_scale(data, preprocessing, preprocessing.channels[0])
    return Volume(scale(torch.from_numpy(data)).numpy(), volume.affine)


def _mean(scans: Sequence[Volume], found: Sequence[Alignment]) -> Float[np.ndarray, "x y z"]:
    """The mean of aligned scans, -1 where a scan has no voxel."""
    moved = [one.forward(scan.data) for scan, one in zip(scans, found, strict=True)]
    return np.stack([np.nan_to_num(one, nan=-1.0) for one in moved]).mean(axis=0)


def _bent_to_their_mean(channels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Channels (N, X, Y, Z) of aligned scans, all bent as brings the first to its mean, twice."""
    first = moved = channels[0]
    fields: list[sitk.Image] = []
    for _ in range(_BENDS):
        mean = moved.mean(axis=0)
        fields = [deformation(mean, one) for one in first]
        moved = np.concatenate([bent(one[None], to) for one, to in zip(first, fields, strict=True)])
    others = (
        np.concatenate([bent(one[None], to) for one, to in zip(channel, fields, strict=True)])
        for channel in channels[1:]
    )
    return [moved, *others]


def _channel(
    plain: Sequence[Float[np.ndarray, "X Y Z"]], name: str, preprocessing: Preprocessing
) -> tuple[Float[np.ndarray, "N X Y Z"], Float[np.ndarray, " L"]]:
    """One channel of aligned scans in [-1, 1], and its landmarks."""
    scales = [intensity_scale(one[np.isfinite(one)], preprocessing, name) for one in plain]
    volumes = np.stack(list(map(scaled, plain, scales)))
    if preprocessing.intensity_of(name) != "mri":
        return volumes, np.zeros(len(PERCENTILES), np.float32)
    inside = anatomy(volumes.mean(axis=0))
    found = [landmarks(one, inside) for one in volumes]
    wanted = np.stack([one for one in found if one is not None]).mean(axis=0)
    matched = [
        landmark_scale(one, inside, wanted) or old for one, old in zip(plain, scales, strict=True)
    ]
    volumes = np.stack(list(map(scaled, plain, matched)))
    healthy = volumes.mean(axis=0), floored(volumes.std(axis=0), inside)
    for one in volumes:
        one[:], _ = without_shading(one, healthy, inside, preprocessing.spacing)
    return volumes, wanted.astype(np.float32)
