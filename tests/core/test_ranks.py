import os

import pytest
import torch

from medgan.core import joining
from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.core.joining import require_alone
from medgan.core.launched import Launched, launched
from medgan.core.randomness import Randomness
from medgan.core.ranks import Left, Ranks
from medgan.networks.losses import localisation_loss
from tests.kit.ranks import environment, on_ranks


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in environment(0, 1, 1):
        monkeypatch.delenv(name, raising=False)
    assert launched() == Launched()
    monkeypatch.setattr(os, "environ", os.environ | environment(0, 1, 1))
    assert launched() == Launched()
    monkeypatch.setattr(os, "environ", os.environ | environment(1, 4, 1))
    assert launched() == Launched(1, 4, 1, 4)
    with pytest.raises(ConfigError, match="E_RANKS index: does not share its work among 4"):
        require_alone("index")


def test_a_batch_is_shared_equally_or_refused():
    assert [Ranks(size=size).share_of(8) for size in (1, 2, 8)] == [8, 4, 1]
    with pytest.raises(ConfigError, match=r"E_RANKS train\.batch: 4 cannot be shared by 3"):
        Ranks(size=3).share_of(4)


def test_every_process_draws_the_same_numbers_and_keeps_its_own_rows():
    def drawn(rank, ranks):
        generator = torch.Generator().manual_seed(3)
        random = Randomness(generator, rank, ranks)
        count = 12 // ranks
        numbers = [
            *(random.normal(count, 3), random.uniform(count), random.integers(9, count, 2)),
            random.voxels(count, 1, 4, 4, 4),
        ]
        return numbers, random.order(count), generator.get_state()

    whole, order, state = drawn(0, 1)
    for ranks in (2, 3):
        for rank in range(ranks):
            parts, same, after = drawn(rank, ranks)
            assert torch.equal(after, state)
            assert torch.equal(same, order)
            for part, full in zip(parts, whole, strict=True):
                assert torch.equal(part, full[rank::ranks])


def _sums(ranks: Ranks) -> dict[str, object]:
    """Everything that processes add up or hand over, each with rows of its own."""
    rows = torch.arange(6.0)[ranks.rank :: ranks.size]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    weights = torch.tensor([1.0, 5.0, 0.0])[ranks.rank]
    own = torch.tensor(float(ranks.rank + 1), requires_grad=True)
    (ranks.summed(own, 1 / ranks.size).square() / ranks.size).backward()
    first, second, third = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
    first.grad = torch.full((2, 2), 1.0 + ranks.rank).t()
    if ranks.rank == 1:
        second.grad = torch.eye(2)
    finite = ranks.add_gradients([first, second, third])
    first.grad[0, 0] *= torch.nan if ranks.rank == 2 else 1.0
    return {
        "total": float(ranks.total(rows.sum())),
        "gathered": ranks.gathered(rows).tolist(),
        "taken": ranks.taken(rows[:, None], order)[:, 0].tolist(),
        "weighted": float(ranks.weighted(1 / 3, weights)),
        "gradient": float(own.grad),
        "gradients": (first.grad[1].tolist(), second.grad.tolist(), third.grad is None),
        "finite": (finite, ranks.add_gradients([first])),
        "heard": ranks.exchange({"rank": ranks.rank}),
        "leader": ranks.by_leader(lambda: f"said by {ranks.rank}"),
    }


def test_three_processes_add_up_hand_over_and_hear_each_other():
    found = on_ranks(3, _sums)
    for rank, one in enumerate(found):
        order = torch.tensor([3.0, 0.0, 5.0, 1.0, 4.0, 2.0])
        assert one == {
            "total": 15.0,
            "gathered": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            "taken": order[rank::3].tolist(),
            "weighted": pytest.approx([1 / 6, 5 / 6, 0.0][rank]),
            "gradient": pytest.approx(2 * 6.0),  # of the square of 1 + 2 + 3
            "gradients": ([6.0, 6.0], [[1.0, 0.0], [0.0, 1.0]], True),
            "finite": (True, False),
            "heard": [{"rank": 0}, {"rank": 1}, {"rank": 2}],
            "leader": "said by 0",
        }


def _differing(ranks: Ranks) -> None:
    ranks.require_alike(lambda: 5.0)
    ranks.require_alike(lambda: 5.0 + 1e-3 * ranks.rank)


def _leaving(ranks: Ranks, who: int, status: int) -> object:
    try:
        if ranks.rank == who:
            ranks.leave(status)
            return "left"
        ranks.exchange("more")
    except Left as left:
        return left.status


def test_a_process_that_ends_or_differs_is_noticed_by_all():
    assert on_ranks(2, _leaving, 0, 75) == [  # the leader: the others end with its status
        "left",
        75,
    ]
    stopped, left = on_ranks(2, _leaving, 1, 75)
    assert (left, stopped.split(":")[0]) == ("left", "Interrupted")
    assert on_ranks(2, _leaving, 1, 4)[0].startswith("EnvironmentFailure: E_RANK_LOST rank 1")
    for answer in on_ranks(2, _differing):
        assert "E_RANKS" in answer
        assert "different weights" in answer


def test_the_dice_of_two_parts_is_that_of_the_whole():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 1, 3, 3, 3, generator=random)
    truth = (torch.rand(4, 1, 3, 3, 3, generator=random) < 0.2).float()
    whole = localisation_loss(logits, truth)
    sums = []
    for part in range(2):
        localisation_loss(
            logits[part::2], truth[part::2], summed=lambda own: (sums.append(own), own)[1]
        )
    parts = [
        localisation_loss(logits[part::2], truth[part::2], summed=lambda own: sums[0] + sums[1])
        for part in range(2)
    ]
    assert torch.stack(parts).mean() == pytest.approx(float(whole), rel=1e-6)


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ | environment(2, 3, 1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(EnvironmentFailure, match=r"E_DEVICE .*3 processes and 2 CUDA devices"),
        joining.joined("auto"),
    ):
        pass
