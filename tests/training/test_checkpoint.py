import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from medgan.core.errors import EnvironmentFailure, ModelError
from medgan.training import checkpoint
from medgan.training.checkpoint import (
    restore_best,
    restore_newest,
    roll_back,
    save_best,
    save_checkpoint,
)
from medgan.training.state import TrainingState
from tests.kit.models import advance, fresh_state


def assert_equal(a: TrainingState, b: TrainingState) -> None:
    left, right = a.tensors(), b.tensors()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert a.scalars() == b.scalars()


@pytest.mark.fault(28)
def test_a_restored_state_goes_on_exactly_as_the_one_that_was_never_interrupted(tmp_path):
    whole = fresh_state()
    advance(whole, 4)
    first = fresh_state()
    advance(first, 2)
    save_checkpoint(first, tmp_path)
    second = fresh_state(seed=9)
    assert restore_newest(second, tmp_path)
    assert_equal(first, second)
    advance(second, 2)
    assert_equal(whole, second)


def test_a_checkpoint_holds_weights_averages_moments_and_random_state():
    state = fresh_state()
    advance(state, 1)
    names = state.tensors().keys()
    for part in (
        *("networks.generator.", "networks.encoder.", "networks.discriminator."),
        *("average.generator.", "pair_discriminator.", "random"),
        *("discriminator_optimizer.", "generator_optimizer."),
    ):
        assert any(name.startswith(part) for name in names), part
    assert any(name.endswith(".exp_avg_sq") for name in names)


def test_only_the_last_two_checkpoints_are_kept(tmp_path):
    state = fresh_state()
    for seen in (2, 4, 6):
        state.volumes_seen = seen
        save_checkpoint(state, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "000000004.json", "000000004.safetensors", "000000006.json", "000000006.safetensors",
    ]  # fmt: skip


@pytest.mark.fault(31)
@pytest.mark.parametrize("damage", ["flip", "cut", "no mark", "half a mark"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
    state = fresh_state()
    for seen in (2, 4):
        state.volumes_seen = seen
        save_checkpoint(state, tmp_path)
    newest = tmp_path / "000000004.safetensors"
    mark = newest.with_suffix(".json")
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
    elif damage == "cut":
        newest.write_bytes(data[:-10])
    elif damage == "no mark":
        mark.unlink()
    else:
        mark.write_text(mark.read_text()[:20])
    other = fresh_state()
    assert restore_newest(other, tmp_path)
    assert other.volumes_seen == 2


def test_when_all_checkpoints_are_damaged_it_says_so(tmp_path):
    save_checkpoint(fresh_state(), tmp_path)
    next(tmp_path.glob("*.safetensors")).write_bytes(b"")
    with pytest.raises(ModelError, match="E_CHECKPOINT"):
        restore_newest(fresh_state(), tmp_path)


@pytest.mark.fault(32)
def test_a_checkpoint_of_other_sizes_is_refused_with_what_differs(tmp_path, measured):
    save_checkpoint(fresh_state(), tmp_path)
    with pytest.raises(ModelError, match="other sizes") as refused:
        restore_newest(fresh_state(latent=9), tmp_path)
    named = re.findall(r"(\S+) is ([\d x]+) there and ([\d x]+) here", refused.value.what)
    assert len(named) == 3
    assert all(there != here for _, there, here in named)
    assert re.search(r"; and \d+ more$", refused.value.what)
    measured(f"a checkpoint: {len(named)} weights named with both sizes")


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A folder with one at 2 and one at 4 volumes."""
    folder, state = tmp_path_factory.mktemp("two"), fresh_state()
    for seen in (2, 4):
        state.volumes_seen = seen
        save_checkpoint(state, folder)
    return folder


def flips(data: bytes, places) -> Iterator[bytes]:
    """The data with one bit wrong, another in each place."""
    for number, place in enumerate(places):
        wrong = bytearray(data)
        wrong[place] ^= 1 << number % 8
        yield bytes(wrong)


@pytest.mark.fault(31)
@pytest.mark.parametrize("step", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flip_in_any_byte_of_the_newest_mark_gives_way_to_the_one_before(
    two_checkpoints, step, measured
):
    mark, state = two_checkpoints / "000000004.json", fresh_state()
    written, taken, harmless = mark.read_bytes(), 0, 0
    places = range(0, len(written), step)
    try:
        for wrong in flips(written, places):
            mark.write_bytes(wrong)
            assert restore_newest(state, two_checkpoints)
            same = state.volumes_seen == 4 and _content(wrong) == _content(written)
            assert same or state.volumes_seen == 2
            taken, harmless = taken + (state.volumes_seen == 2), harmless + same
    finally:
        mark.write_bytes(written)
    assert taken > 0.9 * len(places)
    measured(f"mark: {len(places)} bytes flipped, {taken} fell back, {harmless} changed nothing")


def _content(text: bytes):
    return json.loads(text.decode())


@pytest.mark.fault(31)
@pytest.mark.parametrize("kilobytes", [64, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flip_in_any_kilobyte_of_the_newest_tensors_gives_way_to_the_one_before(
    two_checkpoints, kilobytes, measured
):
    tensors, state = two_checkpoints / "000000004.safetensors", fresh_state()
    written = tensors.read_bytes()
    places = range(0, len(written), 1024 * kilobytes)
    try:
        for wrong in flips(written, places):
            tensors.write_bytes(wrong)
            assert restore_newest(state, two_checkpoints)
            assert state.volumes_seen == 2
    finally:
        tensors.write_bytes(written)
    measured(f"tensors: {len(places)} flips, one in each {kilobytes} KB, all fell back")


@pytest.mark.fault(31)
@pytest.mark.parametrize("mark", ["5", "[]", "null", "{}", '"x"', "[" * 200_000, "\udcff"])
def test_what_is_no_mark_gives_way_to_the_checkpoint_before(two_checkpoints, mark):
    path, state = two_checkpoints / "000000004.json", fresh_state()
    written = path.read_bytes()
    try:
        path.write_bytes(mark.encode("utf-8", "surrogateescape"))
        assert restore_newest(state, two_checkpoints)
        assert state.volumes_seen == 2
    finally:
        path.write_bytes(written)


def test_a_mark_without_a_hash_of_its_own_is_of_an_older_version_and_taken(tmp_path):
    state = fresh_state()
    state.volumes_seen = 4
    mark = save_checkpoint(state, tmp_path)
    entry = _content(mark.read_bytes())
    del entry["seal"]
    mark.write_text(json.dumps(entry))
    other = fresh_state()
    assert restore_newest(other, tmp_path)
    assert other.volumes_seen == 4


def test_an_empty_folder_restores_nothing(tmp_path):
    assert not restore_newest(fresh_state(), tmp_path)


@pytest.mark.fault(29)
def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch):
    state = fresh_state()
    save_checkpoint(state, tmp_path)
    before = sorted(tmp_path.iterdir())

    def full(path: Path, data: bytes) -> None:
        raise EnvironmentFailure("E_DISK", path.name, "not written", "free some space")

    state.volumes_seen = 2
    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(EnvironmentFailure, match="E_DISK"):
        save_checkpoint(state, tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert restore_newest(fresh_state(), tmp_path)


def test_the_mark_is_written_after_the_tensors_it_vouches_for(tmp_path, monkeypatch):
    order = []
    real = checkpoint.write_atomic
    monkeypatch.setattr(
        checkpoint, "write_atomic", lambda path, data: (order.append(path.suffix), real(path, data))
    )
    mark = save_checkpoint(fresh_state(), tmp_path)
    assert order == [".safetensors", ".json"]
    assert json.loads(mark.read_text())["sha256"]


def saved(folder: Path, *courses: dict[str, int]) -> TrainingState:
    """A state whose checkpoints at 2, 4, ... volumes remember what is given."""
    state = fresh_state()
    for number, course in enumerate(courses, 1):
        state.volumes_seen = 2 * number
        for name, value in ({"absurd_steps": 0, "low_diversity_evaluations": 0} | course).items():
            setattr(state.monitor, name, value)
        save_checkpoint(state, folder)
    return state


@pytest.mark.parametrize(
    ("courses", "now", "target"),
    [
        ([{}, {}], 0, 4),
        ([{}, {"absurd_steps": 1}], 0, 2),
        ([{}, {"low_diversity_evaluations": 1}], 0, 2),
        ([{}, {}], 1, 2),
        ([{}, {"rollbacks": 1}], 1, 4),
        ([{"absurd_steps": 2}, {"absurd_steps": 3}], 0, 2),
        ([{"absurd_steps": 3}], 1, 2),
    ],
)
def test_a_rollback_ends_at_the_newest_checkpoint_that_can_be_trusted(
    courses, now, target, tmp_path
):
    state = saved(tmp_path, *courses)
    state.monitor.rollbacks = now
    roll_back(state, tmp_path)
    assert state.volumes_seen == target
    assert state.monitor.rollbacks == now + 1
    assert not state.monitor.alarm_pending
    assert max(p.stem for p in tmp_path.glob("*.json")) == f"{target:09d}"


def test_after_a_rollback_weights_are_old_and_randomness_and_time_are_new(tmp_path):
    state = fresh_state()
    save_checkpoint(state, tmp_path)
    old = state.tensors()
    advance(state, 2)
    state.seconds = 7.0
    random = state.random.get_state()
    roll_back(state, tmp_path)
    new = state.tensors()
    assert all(torch.equal(old[key], new[key]) for key in old if key != "random")
    assert old.keys() == new.keys()
    assert torch.equal(random, state.random.get_state())
    assert not torch.equal(random, old["random"])
    assert state.seconds == 7.0


@pytest.mark.fault(31)
def test_a_rollback_over_a_damaged_checkpoint_takes_the_one_before(tmp_path):
    state = saved(tmp_path, {}, {})
    (tmp_path / "000000004.safetensors").write_bytes(b"")
    roll_back(state, tmp_path)
    assert state.volumes_seen == 2


def best_of(state: TrainingState, folder: Path, value: float) -> torch.Tensor:
    with torch.no_grad():
        next(state.average.generator.parameters()).fill_(value)
    state.monitor.best, state.monitor.best_at = value, state.volumes_seen
    save_best(state, folder)
    return torch.cat(
        [p.flatten() for m in state.average.modules().values() for p in m.parameters()]
    )


def test_the_best_weights_come_back_and_only_those_that_a_checkpoint_names_are_kept(tmp_path):
    state = fresh_state()
    weights = {}
    for seen in (2, 4, 6, 8):
        state.volumes_seen = seen
        weights[seen] = best_of(state, tmp_path, float(-seen))
        if seen != 6:
            save_checkpoint(state, tmp_path)
    assert sorted(p.name for p in tmp_path.glob("best*")) == [
        "best-000000004.safetensors", "best-000000008.safetensors",
    ]  # fmt: skip
    for mark, seen in ((None, 8), ("000000008.json", 4)):
        if mark:
            (tmp_path / mark).unlink()
        other = fresh_state(seed=3)
        assert restore_newest(other, tmp_path)
        assert restore_best(other, tmp_path)
        found = [p.flatten() for m in other.average.modules().values() for p in m.parameters()]
        assert torch.equal(torch.cat(found), weights[seen])


def test_best_weights_of_another_course_are_not_taken(tmp_path):
    state = fresh_state()
    state.volumes_seen = 2
    assert not restore_best(state, tmp_path)
    best_of(state, tmp_path, 1.0)
    save_checkpoint(state, tmp_path)
    other = fresh_state()
    other.volumes_seen = 2
    best_of(other, tmp_path, 2.0)
    assert not restore_best(state, tmp_path)
