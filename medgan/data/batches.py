"""Prepared volumes on disk, and the endless stream of batches a training reads."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.core.files import write_atomic
from medgan.data import prepared_file
from medgan.data.checks import CheckedScan
from medgan.data.codebook import channels
from medgan.data.conditions import covariates_of, encode
from medgan.data.labels import as_channels, encode_labels, soft_codes
from medgan.data.manifest import Case, Refusal
from medgan.data.prepare import Preparation, require_aligned
from medgan.data.reading import read_case, usable

IMAGE, LABEL = "image", "label"
"""Names of the tensors in a file of the cache."""


@dataclass(frozen=True)
class Batch:
    """Named tensors of the scans that one step of training reads, the first axis over the scans.

    Every batch has `volume` and `condition`, those of whole scans also `labels` and `labelled`; a
    training task may add others.

    Attributes:
        tensors: by name.
    """

    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __len__(self) -> int:
        return len(self.volume)

    @property
    def volume(self) -> Float[Tensor, "B C X Y Z"]:
        """Image channels in [-1, 1]."""
        return self.tensors["volume"]

    @property
    def labels(self) -> Float[Tensor, "B D X Y Z"]:
        """Soft label channels in [-1, 1], -1 where a scan has no label map."""
        return self.tensors["labels"]

    @property
    def labelled(self) -> Bool[Tensor, " B"]:
        """Which scans have a label map."""
        return self.tensors["labelled"]

    @property
    def condition(self) -> Float[Tensor, "B E"]:
        """Encoded covariates of each scan (see `encode`); no column without conditions."""
        return self.tensors["condition"]

    @property
    def wrong(self) -> tuple[Float[Tensor, "B E"], Bool[Tensor, " B"]] | None:
        """Conditions with captions of other scans, and which then differ; None without captions."""
        return (self.tensors["wrong"], self.tensors["differ"]) if "wrong" in self.tensors else None

    def having(self, **tensors: Tensor) -> "Batch":
        """The same batch with some tensors added or exchanged."""
        return Batch({**self.tensors, **tensors})

    def split(self, size: int) -> "Iterator[Batch]":
        """Batches of `size` scans each; 0 gives the whole."""
        parts = {name: t.split(size or len(t)) for name, t in self.tensors.items()}
        for number in range(len(parts["volume"])):
            yield Batch({name: part[number] for name, part in parts.items()})

    def to(self, device: torch.device) -> "Batch":
        """On the device, images in the memory layout that 3D convolutions are fastest in."""
        layouts = {
            name: torch.channels_last_3d
            if t.ndim == 5 and name != "labels"
            else torch.preserve_format
            for name, t in self.tensors.items()
        }
        return Batch(
            {
                name: t.to(device, non_blocking=True, memory_format=layouts[name])
                for name, t in self.tensors.items()
            }
        )


class PreparedVolumes:
    """Scans in the model's grid, computed once and kept on disk as plain tensors.

    A file's name is made from the hashes of scan and label map and from the preprocessing, so a
    changed scan or setting is never served from an old file. Files that cannot be read are
    computed again.

    MONAI's PersistentDataset is not used: it moves files in from another disk, so a killed
    process leaves half of one, which then stops every later training.

    Attributes:
        cases: those that it has volumes of, in order.
        patches: whether they are whole scans of several sizes, from which patches are cut.

    Args:
        cases: from the manifest.
        preprocessing: the model's.
        folder: cache; made if missing.
        read: gives the checked files of a case, with its label map if wanted.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        preprocessing: Preprocessing,
        folder: Path,
        read: Callable[[Case, bool], CheckedScan] = read_case,
    ) -> None:
        self.labels, self.patches = preprocessing.labels, preprocessing.patches
        self.cases, self._folder = cases, folder
        self.conditions = preprocessing.conditions
        self._encoded = [
            encode(self.conditions, covariates_of(case, self.conditions)) for case in cases
        ]
        unused = {n for n in ("brain", "bias", "align") if getattr(preprocessing, n) == "none"}
        unused |= {"template"} if "align" in unused else set()
        self._policy = preprocessing.model_dump_json(exclude={"conditions", *unused})
        self._prepare = _Prepare(preprocessing, read)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, bool]:
        """Image (C, X, Y, Z), label channels (D, X, Y, Z), whether there is a label map."""
        image, label = self.arrays(number)
        tensor = torch.from_numpy(image)
        if label is None:
            blank = tensor.new_full((channels(self.labels), *image.shape[1:]), -1.0)
            return tensor, blank, False
        return tensor, encode_labels(torch.from_numpy(label), self.labels), True

    def arrays(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (C, X, Y, Z) and label map (X, Y, Z) or None, without torch's threads."""
        item = self._read(self.cases[number])
        return item[IMAGE], item.get(LABEL)

    def batches(self, size: int = 8) -> Iterator[Float[Tensor, "B C X Y Z"]]:
        """All images, in order."""
        for start in range(0, len(self), size):
            numbers = range(start, min(start + size, len(self)))
            yield torch.stack([torch.from_numpy(self.arrays(n)[0]) for n in numbers])

    def condition(self, number: int) -> np.ndarray:
        """What is known of a scan, (D,) as `encode` gives it."""
        return self._encoded[number]

    def label_map(self, number: int) -> Tensor | None:
        """Label values (X, Y, Z) of a scan on the model's grid, or None without a label map."""
        _, label = self.arrays(number)
        return None if label is None else torch.from_numpy(label)

    def warm(
        self, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Refusal]:
        """Computes whatever is not on disk yet.

        Returns:
            The scans that cannot be prepared. They are left out from here on.
        """
        results, refusals = usable(self.cases, lambda case: (case, self._read(case)))
        done = []
        for case, _ in results:
            done.append(case)
            progress(len(done), len(self))
        self.cases = done
        self._encoded = [
            encode(self.conditions, covariates_of(case, self.conditions)) for case in done
        ]
        return refusals

    def _read(self, case: Case) -> dict[str, np.ndarray]:
        key = json.dumps([case.sha256, case.label_sha256, self._policy])
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
        with suppress(FileNotFoundError, SafetensorError):
            return prepared_file.from_bytes(path.read_bytes())
        item = self._prepare(case)
        write_atomic(path, prepared_file.to_bytes(item), private=True)
        return item


class _Prepare:
    """Reads each file of a case once, checks it and brings it to the model's grid."""

    def __init__(
        self, preprocessing: Preprocessing, read: Callable[[Case, bool], CheckedScan]
    ) -> None:
        self._read = read
        self._labelled = bool(preprocessing.labels)
        self._preparation = Preparation(preprocessing)

    def __call__(self, case: Case) -> dict[str, np.ndarray]:
        scan = self._read(case, self._labelled)
        prepared = self._preparation(scan.volumes, case.case)
        require_aligned(prepared, self._preparation.preprocessing, case.case)
        item = {IMAGE: prepared.volume.numpy()}
        if scan.label is not None and self._labelled:
            item[LABEL] = prepared.label_map(scan.label.volume)
        return item


Prepare = Callable[[PreparedVolumes, int, np.random.Generator], dict[str, np.ndarray]]


@dataclass
class BatchStream:
    """Endless shuffled batches, read ahead by one in a thread.

    The i-th volume of the stream is a function of the seed and i alone, so its position is
    one number and a resumed training reads on as if nothing had happened. Of several processes
    that train together each reads its share of every batch: from volume `rank` on, every
    `ranks`-th.

    Attributes:
        volumes: what is streamed.
        size: volumes a batch, those of all processes.
        seed: of the order.
        position: volumes handed out so far.
        prepare: what a training task adds to a volume of a batch or replaces in it, from the
            volumes, the number of that one and a random generator; None nothing. It gives all there
            is where patches are cut from whole scans.
        rank, ranks: of this process.
    """

    volumes: PreparedVolumes
    size: int
    seed: int
    position: int = 0
    prepare: Prepare | None = None
    rank: int = 0
    ranks: int = 1

    def __iter__(self) -> Generator[Batch, None, None]:
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, self.position)
            while True:
                arrays = ahead.result()
                self.position += self.size
                ahead = reader.submit(self._read, self.position)
                tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
                if "labels" in tensors:
                    tensors["labels"] = as_channels(tensors["labels"])
                yield Batch(tensors)

    def _read(self, position: int) -> dict[str, np.ndarray]:
        """Reads in the thread, with NumPy alone: torch's threads would hinder the training's."""
        places = range(position + self.rank, position + self.size, self.ranks)
        numbers = [self.number(place) for place in places]
        arrays = {} if self.volumes.patches else self._whole(numbers)
        if self.prepare is not None:
            made = [
                self.prepare(self.volumes, number, np.random.default_rng([self.seed, place, 1]))
                for place, number in zip(places, numbers, strict=True)
            ]
            arrays |= {name: np.stack([one[name] for one in made]) for name in made[0]}
        return arrays

    def _whole(self, numbers: list[int]) -> dict[str, np.ndarray]:
        """Whole scans with all that is known of them."""
        items = [self.volumes.arrays(number) for number in numbers]
        images = np.stack([image for image, _ in items])
        blank = np.zeros(images.shape[2:], np.int32)
        label_maps = np.stack([blank if label is None else label for _, label in items])
        return {
            "volume": images,
            "labels": soft_codes(label_maps, self.volumes.labels),
            "labelled": np.array([label is not None for _, label in items]),
            "condition": np.stack([self.volumes.condition(number) for number in numbers]),
        }

    def number(self, position: int) -> int:
        """Number of the volume at a position: a new permutation every epoch."""
        epoch, index = divmod(position, len(self.volumes))
        return int(np.random.default_rng([self.seed, epoch]).permutation(len(self.volumes))[index])
