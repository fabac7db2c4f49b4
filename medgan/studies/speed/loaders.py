"""Prepared scans from files, by medgan and by the loaders of MONAI and TorchIO."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from medgan.core.config import Preprocessing
from medgan.data.batches import BatchStream, PreparedVolumes
from medgan.data.manifest import Case
from medgan.studies.speed.turns import Contender, Work

_IMAGE, _LABEL = "image", "label"
_MONAI, _TORCHIO = "MONAI (Apache-2.0)", "TorchIO (Apache-2.0)"
Batches = Iterable[Any]


def loaders(
    cases: Sequence[Case], preprocessing: Preprocessing, batch: int, folder: Path, first: bool
) -> list[Contender]:
    """Loaders of the same files, each in this process, without workers and augmentation.

    Args:
        cases: at least a batch.
        preprocessing: grid and percentiles that all bring scans to.
        batch: volumes a batch.
        folder: receives caches.
        first: whether a turn is a first pass, from files, with a cache to be filled; else a pass
            that finds it filled.
    """
    whole = len(cases) // batch * batch
    numbers = itertools.count()

    def contender(
        name: str, includes: str, source: str, make: Callable[[Path], Callable[[], Batches]]
    ) -> Contender:
        def fresh() -> Callable[[], Batches]:
            return make(folder / f"loader-{next(numbers)}")

        def begin() -> Work:
            if first:
                fresh()  # what is not installed is found now
                return Work(lambda: _consumed(fresh()()), whole)
            one_pass = fresh()
            _consumed(one_pass())  # fills the cache
            return Work(lambda: _consumed(one_pass()), whole)

        return Contender(name, includes, source, begin)

    def ours(cache: Path) -> Callable[[], Batches]:
        volumes = PreparedVolumes(cases, preprocessing, cache)
        batches = iter(BatchStream(volumes, batch, 0))
        return lambda: itertools.islice(batches, whole // batch)

    @cache  # made before the first turn: a training makes them once
    def monai() -> tuple[list[dict[str, str]], Any]:
        return _monai(cases, preprocessing)

    def in_memory(_: Path) -> Callable[[], Batches]:
        from monai.data.dataset import CacheDataset

        files, transforms = monai()
        # Filled when it is read first, as the others are.
        dataset = CacheDataset(files, transforms, runtime_cache=True, progress=False)
        return _batches_of(dataset, batch)

    def on_disk(cache: Path) -> Callable[[], Batches]:
        from monai.data.dataset import PersistentDataset

        files, transforms = monai()
        return _batches_of(PersistentDataset(files, transforms, cache), batch)

    def queue(_: Path) -> Callable[[], Batches]:
        return _torchio(cases, preprocessing, batch)

    labels = "image and soft label channels" if preprocessing.labels else "image"
    maps = "image and label map" if preprocessing.labels else "image"
    return [
        contender(
            "medgan", f"{labels}, read from safetensors on disk by a thread; files are checked",
            "medgan (Apache-2.0)", ours,
        ),
        contender("MONAI CacheDataset", f"{maps}, held in memory", _MONAI, in_memory),
        contender("MONAI PersistentDataset", f"{maps}, read from disk", _MONAI, on_disk),
        contender(
            "TorchIO queue", f"{maps}; whole volumes as patches, prepared anew in each pass",
            _TORCHIO, queue,
        ),
    ]  # fmt: skip


def _consumed(batches: Batches) -> None:
    """Takes all batches."""
    for _ in batches:
        pass


def _files(cases: Sequence[Case], labelled: bool) -> list[dict[str, str]]:
    """Image, and label map where all have one and it is wanted."""
    wanted = labelled and all(case.label for case in cases)
    return [{_IMAGE: case.image, **({_LABEL: str(case.label)} if wanted else {})} for case in cases]


def _monai(cases: Sequence[Case], grid: Preprocessing) -> tuple[list[dict[str, str]], Any]:
    """Files, and the transforms that bring them to the grid, as medgan's preparation does."""
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.dictionary import ResizeWithPadOrCropd
    from monai.transforms.intensity.dictionary import ScaleIntensityRangePercentilesd
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.spatial.dictionary import Orientationd, Spacingd

    files = _files(cases, bool(grid.labels))
    keys = list(files[0])
    low, high = grid.percentiles
    modes = ["bilinear", "nearest"][: len(keys)]
    transforms = [
        LoadImaged(keys, "NibabelReader", ensure_channel_first=True),
        Orientationd(keys, "RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        Spacingd(keys, grid.spacing, mode=modes),
        ScaleIntensityRangePercentilesd([_IMAGE], low, high, -1, 1, clip=True),
        ResizeWithPadOrCropd(keys, grid.shape),
    ]
    return files, Compose(transforms)


def _batches_of(dataset: Any, batch: int) -> Callable[[], Batches]:  # noqa: ANN401 - any of MONAI's
    loader: DataLoader[Tensor] = DataLoader(dataset, batch, shuffle=True, drop_last=True)
    return lambda: loader


def _torchio(cases: Sequence[Case], grid: Preprocessing, batch: int) -> Callable[[], Batches]:
    """Whole volumes through a queue of patches."""
    import torchio  # pyright: ignore[reportMissingImports]

    transforms = torchio.Compose(
        [
            torchio.ToCanonical(),
            torchio.Resample(grid.spacing),
            torchio.RescaleIntensity((-1, 1), percentiles=grid.percentiles),
            torchio.CropOrPad(grid.shape, padding_mode="minimum"),
        ]
    )
    kinds = {_IMAGE: torchio.ScalarImage, _LABEL: torchio.LabelMap}
    files = _files(cases, bool(grid.labels))

    def one_pass() -> Batches:
        subjects = [
            torchio.Subject({name: kinds[name](path) for name, path in one.items()})
            for one in files
        ]
        queue = torchio.Queue(
            torchio.SubjectsDataset(subjects, transforms), 2 * batch, 1,
            torchio.data.UniformSampler(grid.shape),
        )  # fmt: skip
        return torchio.SubjectsLoader(queue, batch_size=batch, drop_last=True)

    return one_pass
