import hashlib
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data import batches, prepared_file
from medgan.data.batches import BatchStream, PreparedVolumes
from medgan.data.conditions import learn
from medgan.data.labels import encode_labels
from medgan.data.manifest import Case
from medgan.data.prepare import Preparation

PREPROCESSING = Preprocessing(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16), labels=(1, 4))


# Prepared volumes


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def a_case(folder: Path, number: int, labelled: bool = True) -> Case:
    rng = np.random.default_rng(number)
    image, label = folder / f"{number}.nii.gz", folder / f"{number}_seg.nii.gz"
    affine = np.diag([-1.0, 1, 1, 1])
    nibabel.save(
        nibabel.Nifti1Image(rng.integers(0, 999, (14, 16, 18)).astype("i2"), affine), image
    )
    if labelled:
        values = rng.choice([0, 1, 4], (14, 16, 18)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(values, affine), label)
    return Case(
        case=f"c-{number}", subject=f"s-{number}", images={"image": str(image)},
        label=str(label) if labelled else None,
        hashes={"image": digest(image)},
        label_sha256=digest(label) if labelled else None, shape=(14, 16, 18),
        spacing=(1.0, 1.0, 1.0), labels=(1, 4), covariates={},
    )  # fmt: skip


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were prepared, in order, while the test ran."""
    images, prepare = [], batches._Prepare.__call__

    def counting(self, case):
        images.append(Path(case.image).name)
        return prepare(self, case)

    monkeypatch.setattr(batches._Prepare, "__call__", counting)
    return images


def prepared(cases: list[Case], folder: Path, **changes) -> PreparedVolumes:
    return PreparedVolumes(cases, PREPROCESSING.model_copy(update=changes), folder / "cache")


def test_a_prepared_volume_is_what_scoring_sees(tmp_path: Path) -> None:
    case = a_case(tmp_path, 1)
    image, _, labelled = prepared([case], tmp_path)[0]
    wanted = Preparation(PREPROCESSING)(Volume.load(case.image))
    assert torch.equal(image, wanted.volume)
    assert type(image) is torch.Tensor
    assert labelled


def test_a_label_map_lies_on_its_image(tmp_path: Path) -> None:
    case = a_case(tmp_path, 1)
    stored = np.asarray(nibabel.load(case.label).dataobj)[::-1]  # stored towards the left
    wanted = np.pad(stored, ((1, 1), (0, 0), (0, 0)))[:, :, 1:17].copy()
    _, labels, _ = prepared([case], tmp_path)[0]
    assert torch.equal(labels, encode_labels(torch.tensor(wanted).int(), (1, 4)))


def test_a_second_construction_reads_the_file(tmp_path: Path, computed: list[str]) -> None:
    cases = [a_case(tmp_path, 1), a_case(tmp_path, 2, labelled=False)]
    told = []
    prepared(cases, tmp_path).warm(lambda done, total: told.append((done, total)))
    assert computed == ["1.nii.gz", "2.nii.gz"]
    assert told == [(1, 2), (2, 2)]
    first = [prepared(cases, tmp_path)[n] for n in range(2)]
    assert len(computed) == 2
    Path(cases[0].image).unlink()
    second = prepared(cases, tmp_path)[0]
    assert torch.equal(first[0][0], second[0])
    assert torch.equal(first[0][1], second[1])


@pytest.mark.parametrize(
    "changes", [{"percentiles": (1.0, 99.0)}, {"labels": (1,)}, {"spacing": (2.0, 1.0, 1.0)}]
)
def test_another_preprocessing_is_computed_anew(
    tmp_path: Path, computed: list[str], changes: dict
) -> None:
    case = a_case(tmp_path, 1)
    one, other = prepared([case], tmp_path)[0], prepared([case], tmp_path, **changes)[0]
    assert len(computed) == 2
    assert not torch.equal(one[0], other[0]) or one[1].shape != other[1].shape


def test_a_changed_scan_or_label_is_computed_anew(tmp_path: Path, computed: list[str]) -> None:
    case, other = a_case(tmp_path, 1), a_case(tmp_path, 2)
    scan = replace(other, label=case.label, label_sha256=case.label_sha256)
    label = replace(case, label=other.label, label_sha256=other.label_sha256)
    for changed in (case, scan, label):
        prepared([changed], tmp_path)[0]
        prepared([changed], tmp_path)[0]
    assert len(computed) == 3


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_that_has_changed_since_it_was_checked_is_refused(tmp_path: Path, kind: str) -> None:
    case, other = a_case(tmp_path, 1), a_case(tmp_path, 2)
    shutil.copy(getattr(other, kind), getattr(case, kind))
    with pytest.raises(DataError, match="E_MANIFEST c-1"):
        prepared([case], tmp_path)[0]
    assert not (tmp_path / "cache").exists()


def test_a_moved_scan_is_not_computed_anew(tmp_path: Path, computed: list[str]) -> None:
    case = a_case(tmp_path, 1)
    prepared([case], tmp_path)[0]
    moved = Path(case.image).rename(tmp_path / "moved.nii.gz")
    prepared([replace(case, images={"image": str(moved)})], tmp_path)[0]
    assert len(computed) == 1


def test_a_damaged_cache_file_is_computed_anew(tmp_path: Path, computed: list[str]) -> None:
    case = a_case(tmp_path, 1)
    wanted = prepared([case], tmp_path)[0][0]
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:100], whole[:-200]):
        kept.write_bytes(damaged)
        assert torch.equal(prepared([case], tmp_path)[0][0], wanted)
    assert len(computed) == 4
    assert kept.stat().st_size == len(whole)


@pytest.mark.fault(3)
def test_no_flipped_byte_of_a_cache_file_is_learned_from(tmp_path: Path, measured) -> None:
    case = a_case(tmp_path, 1)
    wanted = prepared([case], tmp_path).arrays(0)
    (kept,) = (tmp_path / "cache").iterdir()
    whole, rng, found = kept.read_bytes(), np.random.default_rng(0), 0
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(header), *rng.integers(header, len(whole), 300).tolist()]
    for place in places:
        raw = bytearray(whole)
        raw[place] ^= 1 << rng.integers(8)
        try:
            item = prepared_file.from_bytes(bytes(raw))
        except SafetensorError:
            found += 1
            continue
        np.testing.assert_array_equal(item["image"], wanted[0])
        np.testing.assert_array_equal(item["label"], wanted[1])
    assert found > 0.9 * len(places)
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    np.testing.assert_array_equal(prepared([case], tmp_path).arrays(0)[1], wanted[1])
    assert kept.read_bytes() == whole
    measured(f"{len(places)} flipped bits of a prepared volume: {found} found, others harmless")


def test_a_scan_without_label_map_has_empty_channels(tmp_path: Path) -> None:
    _, labels, labelled = prepared([a_case(tmp_path, 1, labelled=False)], tmp_path)[0]
    assert labels.shape == (2, 16, 16, 16)
    assert labels.eq(-1).all()
    assert not labelled


def test_a_model_without_labels_reads_none(tmp_path: Path) -> None:
    case = replace(a_case(tmp_path, 1), label=str(tmp_path / "missing.nii.gz"))
    _, labels, labelled = prepared([case], tmp_path, labels=())[0]
    assert labels.shape == (0, 16, 16, 16)
    assert not labelled


# Streams


@pytest.fixture
def volumes(tmp_path: Path) -> PreparedVolumes:
    return prepared([a_case(tmp_path, n, labelled=n != 3) for n in range(5)], tmp_path)


def take(stream: BatchStream, count: int) -> list[batches.Batch]:
    iterator = iter(stream)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def test_a_batch_holds_images_labels_and_whether_there_are_any(volumes: PreparedVolumes) -> None:
    stream = BatchStream(volumes, 5, seed=0)
    (batch,) = take(stream, 1)
    assert batch.volume.shape == (5, 1, 16, 16, 16)
    assert batch.labels.shape == (5, 2, 16, 16, 16)
    assert batch.labelled.tolist() == [stream.number(i) != 3 for i in range(5)]
    for place in range(5):
        assert torch.equal(batch.volume[place], volumes[stream.number(place)][0])


def test_a_batch_says_what_is_known_of_each_scan_and_conditions_keep_the_prepared_files(
    tmp_path: Path, computed: list[str]
) -> None:
    cases = [replace(a_case(tmp_path, n), covariates={"sex": "FM"[n % 2]}) for n in range(4)]
    cases[3] = replace(cases[3], covariates={})
    prepared(cases, tmp_path).warm()
    conditions = learn({"sex": "categorical"}, cases)
    stream = BatchStream(prepared(cases, tmp_path, conditions=conditions), 4, seed=0)
    (batch,) = take(stream, 1)
    wanted = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 0]])
    assert torch.equal(batch.condition, wanted[[stream.number(i) for i in range(4)]])
    assert len(computed) == 4


def test_a_position_is_all_it_takes_to_resume(volumes: PreparedVolumes) -> None:
    whole = BatchStream(volumes, 3, seed=7)
    batches, positions = [], []
    iterator = iter(whole)
    for _ in range(5):
        positions.append(whole.position)
        batches.append(next(iterator))
    iterator.close()
    assert positions == [0, 3, 6, 9, 12]
    for start, position in enumerate(positions):
        resumed = take(BatchStream(volumes, 3, 7, position), 5 - start)
        for one, other in zip(batches[start:], resumed, strict=True):
            assert one.tensors.keys() == other.tensors.keys()
            assert all(torch.equal(one[name], other[name]) for name in one.tensors)


@given(st.integers(0, 99), st.integers(1, 12))
def test_every_volume_appears_once_a_pass(seed: int, count: int) -> None:
    stream = object.__new__(BatchStream)  # of numbers, not of files
    stream.volumes, stream.seed = range(count), seed
    numbers = [stream.number(position) for position in range(3 * count)]
    for turn in range(3):
        assert sorted(numbers[turn * count : (turn + 1) * count]) == list(range(count))


def test_passes_and_seeds_differ_in_their_order(volumes: PreparedVolumes) -> None:
    orders = {
        tuple(BatchStream(volumes, 1, seed).number(p) for p in range(5 * turn, 5 * turn + 5))
        for seed in range(3)
        for turn in range(3)
    }
    assert len(orders) > 6


def test_closing_a_stream_ends_its_thread(volumes: PreparedVolumes) -> None:
    before = threading.active_count()
    iterator = iter(BatchStream(volumes, 2, 0))
    next(iterator)
    assert threading.active_count() == before + 1
    iterator.close()
    assert threading.active_count() == before


def test_an_error_of_the_reader_reaches_the_training(
    volumes: PreparedVolumes, tmp_path: Path
) -> None:
    for path in tmp_path.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match="E_UNREADABLE c-") as caught:
        next(iter(BatchStream(volumes, 2, 0)))
    assert str(tmp_path) not in str(caught.value)
