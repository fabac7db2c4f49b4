import math

import pytest
import torch

from medgan.networks.contrast import ProjectionHeads, contrastive_loss, draw_places


def unit(*shape, seed=0):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_places_that_look_alike_are_told_apart_by_chance():
    same = unit(1, 1, 8).expand(2, 16, 8)
    assert contrastive_loss(same, same, 0.07).item() == pytest.approx(math.log(16), abs=1e-5)


def test_the_loss_is_that_of_an_explicit_softmax_over_the_places_of_one_volume():
    query, key = unit(2, 5, 4), unit(2, 5, 4, seed=1)
    expected = 0.0
    for volume in range(2):
        for place in range(5):
            scores = torch.exp(key[volume] @ query[volume, place] / 0.5)
            expected -= math.log(scores[place] / scores.sum()) / 10
    assert contrastive_loss(query, key, 0.5).item() == pytest.approx(expected, abs=1e-5)


def test_keys_get_no_gradient():
    query, key = (unit(1, 4, 3, seed=n).requires_grad_() for n in (0, 1))
    contrastive_loss(query, key, 0.07).backward()
    assert query.grad is not None
    assert key.grad is None


def test_heads_see_a_place_alone():
    torch.manual_seed(0)
    heads, random = ProjectionHeads((3,), 6), torch.Generator().manual_seed(0)
    feature = torch.randn(2, 3, 4, 4, 4, generator=random)
    places = draw_places([feature], 10, random)
    (found,) = heads([feature], places)
    assert found.shape == (2, 10, 6)
    assert torch.allclose(found.norm(dim=2), torch.ones(2, 10), atol=1e-5)
    x, y, z = (int(n) for n in torch.unravel_index(places[0][7], (4, 4, 4)))
    feature[:, :, x, y, z] += 1
    (changed,) = heads([feature], places)
    differs = (changed != found).any(dim=2)
    assert differs[:, 7].all()
    assert differs.sum() == 2


def test_no_place_is_drawn_twice_and_a_small_stage_gives_all():
    features = [torch.zeros(1, 2, 8, 8, 8), torch.zeros(1, 2, 2, 2, 2)]
    large, small = draw_places(features, 100, torch.Generator().manual_seed(0))
    assert len(large.unique()) == 100
    assert sorted(small.tolist()) == list(range(8))
