import pytest
import torch

from medgan.core.randomness import Randomness
from medgan.networks.caption import POOLED, CaptionEncoder

WORDS, FEATURES = 6, 5


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return CaptionEncoder(WORDS, FEATURES)


def conditions(generator, *counts):
    """Two columns, and captions of so many words."""
    rows = torch.randn(len(counts), WORDS, FEATURES, generator=generator)
    for row, count in zip(rows, counts, strict=True):
        row[count:] = 0
    return torch.cat([torch.ones(len(counts), 2), rows.flatten(1)], dim=1)


def test_other_conditions_pass_and_an_unknown_caption_is_all_zeros(encoder, generator):
    condition = conditions(generator, 4, 0)
    seen = encoder(condition)
    assert seen.shape == (2, 2 + POOLED)
    assert torch.equal(seen[:, :2], condition[:, :2])
    assert seen[0, 2:].any()
    assert not seen[1, 2:].any()
    assert torch.isfinite(seen).all()


def test_the_order_of_words_counts_and_empty_rows_behind_them_do_not(encoder, generator):
    one = conditions(generator, 3)
    rows = one[:, 2:].unflatten(1, (WORDS, FEATURES))
    turned = torch.cat([one[:, :2], rows[:, [2, 1, 0, 3, 4, 5]].flatten(1)], dim=1)
    assert not torch.allclose(encoder(one), encoder(turned), atol=1e-3)
    longer = CaptionEncoder(WORDS + 3, FEATURES)
    longer.load_state_dict(encoder.state_dict())
    padded = torch.cat([one, torch.zeros(1, 3 * FEATURES)], dim=1)
    assert torch.allclose(encoder(one), longer(padded), atol=1e-6)


def test_a_wrong_caption_is_that_of_the_scan_before_where_both_are_known(encoder, generator):
    condition = conditions(generator, 3, 4, 0, 2)
    condition[1, 2:] = condition[0, 2:]
    seen = encoder(condition)
    wrong, differ = encoder.mismatched(condition, seen)
    assert torch.equal(wrong[:, :2], condition[:, :2])
    assert torch.equal(wrong[1:, 2:], seen[:-1, 2:])
    assert differ.tolist() == [True, False, False, False]


def test_words_are_left_out_whole_and_no_other_condition(encoder, generator):
    condition = conditions(generator, *[WORDS] * 500)
    left = encoder.without_words(condition, 0.25, Randomness(generator))
    assert torch.equal(left[:, :2], condition[:, :2])
    rows = left[:, 2:].unflatten(1, (WORDS, FEATURES))
    gone = ~rows.any(dim=2)
    assert abs(gone.double().mean() - 0.25) < 0.03
    assert torch.equal(rows[~gone], condition[:, 2:].unflatten(1, (WORDS, FEATURES))[~gone])
