import json
from pathlib import Path

import pytest
import torch

from medgan.errors import EnvironmentFailure, ModelError
from medgan.training import checkpoint
from medgan.training.checkpoint import restore_newest, save_checkpoint
from medgan.training.state import TrainingState
from tests.builders import advance, fresh_state


def assert_equal(a: TrainingState, b: TrainingState) -> None:
    left, right = a.tensors(), b.tensors()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert a.scalars() == b.scalars()


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
        *("critic_optimizer.", "generator_optimizer."),
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


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path):
    save_checkpoint(fresh_state(), tmp_path)
    with pytest.raises(ModelError, match="other sizes"):
        restore_newest(fresh_state(latent=9), tmp_path)


def test_an_empty_folder_restores_nothing(tmp_path):
    assert not restore_newest(fresh_state(), tmp_path)


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
