import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medgan.data.codebook import codewords
from medgan.data.labels import (
    decode_labels,
    encode_labels,
    largest_components,
    volume_keeping_offset,
)

MANY = (2, 4, 10, 11, 12, 13, 17, 18, 26, 28, *range(1001, 1012), *range(2025, 2036))
"""32 label values as FreeSurfer gives them."""


def test_an_edge_becomes_a_quarter_and_three_quarters() -> None:
    label = torch.zeros(8, 6, 6, dtype=torch.int64)
    label[4:] = 5
    (soft,) = encode_labels(label, (5,))
    wanted = torch.tensor([-1, -1, -1, -0.5, 0.5, 1, 1, 1])
    assert torch.equal(soft, wanted[:, None, None].expand(8, 6, 6))


def test_softening_is_the_same_along_every_axis() -> None:
    label = torch.zeros(7, 7, 7, dtype=torch.int64)
    label[3, 3, 3] = 1
    (soft,) = encode_labels(label, (1,))
    assert soft[3, 3, 3] == 2 * 0.125 - 1
    for axes in [(1, 0, 2), (2, 1, 0), (0, 2, 1)]:
        assert torch.equal(soft, soft.permute(axes))


def test_softening_loses_nothing_at_the_rim() -> None:
    label = torch.ones(4, 5, 6, dtype=torch.int32)
    assert torch.equal(
        encode_labels(label, (1, 2)),
        torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1).expand(2, 4, 5, 6),
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.sampled_from([(1,), (1, 2), (3, 7, 250), MANY]))
def test_thick_label_maps_survive_softening_and_hardening(
    seed: int, values: tuple[int, ...]
) -> None:
    blocks = np.random.default_rng(seed).choice([0, *values], (3, 3, 3))
    label = torch.tensor(blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2))
    again = decode_labels(encode_labels(label, values), values)
    # Only voxels at corners, where several labels meet, may change.
    inner = torch.zeros(12, dtype=torch.bool)
    inner[[1, 2, 5, 6, 9, 10]] = True
    inside = inner[:, None, None] & inner[None, :, None] & inner[None, None, :]
    assert torch.equal(again[inside], label[inside])
    assert set(again.unique().tolist()) <= {0, *values}


def test_a_straight_border_survives_softening_and_hardening_exactly() -> None:
    for axis in range(3):
        label = torch.zeros(8, 8, 8, dtype=torch.int64)
        label.narrow(axis, 2, 3).fill_(1003)
        label.narrow(axis, 5, 3).fill_(2035)
        for values in ((1003, 2035), MANY):
            assert torch.equal(decode_labels(encode_labels(label, values), values), label)


def test_where_no_label_is_strong_there_is_background() -> None:
    assert decode_labels(torch.full((3, 2, 2, 2), -1.0), (1, 2, 3)).eq(0).all()


@pytest.mark.parametrize("values", [(1, 4), (*range(1, 13),)])
def test_the_offset_keeps_the_volume_of_thin_label_maps(values: tuple[int, ...]) -> None:
    maps = []
    for shift in range(3):
        label_map = torch.zeros(16, 16, 16, dtype=torch.int32)
        label_map[3:13, 6 + shift : 8 + shift, 6:8] = 1
        label_map[4:8, 2:6, 10:14] = 4
        maps.append(label_map)

    def volume(offset: float) -> int:
        return sum(
            int((decode_labels(encode_labels(m, values), values, offset) > 0).sum()) for m in maps
        )

    wanted = sum(int((m > 0).sum()) for m in maps)
    offset = volume_keeping_offset(maps, values)
    assert volume(0.0) < 0.97 * wanted
    assert abs(volume(offset) - wanted) < abs(volume(0.0) - wanted)


def test_the_offset_of_a_half_space_is_nothing() -> None:
    label_map = torch.zeros(16, 16, 16, dtype=torch.int32)
    label_map[:8] = 1
    assert volume_keeping_offset([label_map], (1,)) == 0.0
    assert torch.equal(decode_labels(encode_labels(label_map, (1,)), (1,)).int(), label_map)


def test_few_labels_are_one_hot_and_read_back_as_ever() -> None:
    random = torch.Generator().manual_seed(0)
    for values in ((1,), (7, 3), (1, 2, 3, 5, 1035, 2035), tuple(range(1, 10))):
        label = torch.tensor([0, 9999, *values])[
            torch.randint(len(values) + 2, (9, 8, 7), generator=random)
        ]
        soft = encode_labels(label, values)
        for channel, value in zip(soft, values, strict=True):
            assert torch.equal(channel, encode_labels((label == value).int(), (1,))[0])
        coarse = torch.randint(-4, 5, soft.shape, generator=random) / 4  # with many ties
        for channels in (soft, coarse, torch.randn(soft.shape, generator=random)):
            for offset in (0.0, 0.125, -0.2):
                share = (channels + 1) / 2
                background = 1 - share.sum(dim=0, keepdim=True) - offset
                strongest = torch.cat([background, share]).argmax(dim=0)
                wanted = torch.tensor([0, *values])[strongest]
                assert torch.equal(decode_labels(channels, values, offset), wanted)


@pytest.mark.parametrize("count", range(1, 33))
def test_between_two_labels_there_is_never_a_third(count: int) -> None:
    values = tuple(range(100, 100 + count))
    known = torch.tensor([0, *values])
    code = torch.tensor(codewords(count)).float().T  # D, K
    step = torch.linspace(0, 1, 33)
    share = code[:, :, None, None] * (1 - step) + code[:, None, :, None] * step
    for offset in (0.0, 0.2, -0.1):
        got = decode_labels(2 * share - 1, values, offset)
        one, other = known[:, None, None], known[None, :, None]
        assert ((got == one) | (got == other)).all()
        inner = (one > 0) & (other > 0)  # between labels, the offset of the background is nothing
        wanted = torch.where(step < 0.5, one, other)
        assert (got == wanted)[inner.expand_as(got) & (step != 0.5)].all()
        against_background = got[:, 0] == torch.where(
            1 - step > (1 - offset) / 2, known[:, None], 0
        )
        assert against_background.all()


@pytest.mark.parametrize("values", [(1, 2), MANY])
def test_values_that_are_not_learned_are_background(values: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    label = torch.tensor([*values, 0, 77, 65535])[
        torch.randint(len(values) + 3, (2, 6, 7, 8), generator=random)
    ]
    known = torch.where(torch.isin(label, torch.tensor(values)), label, 0)
    assert torch.equal(encode_labels(label, values), encode_labels(known, values))


def test_a_batch_is_softened_one_by_one() -> None:
    label = torch.tensor(MANY)[torch.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6) % len(MANY)]
    both = encode_labels(label, MANY)
    assert both.is_contiguous()
    assert torch.equal(both, torch.stack([encode_labels(one, MANY) for one in label]))


def random_cells(values: tuple[int, ...]) -> torch.Tensor:
    """An ellipsoid in cells, one a value."""
    rng = np.random.default_rng(0)
    size = np.array((32, 48, 32))
    points = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    seeds = size * rng.uniform(0.15, 0.85, (len(values), 3))
    nearest = ((points[..., None, :] - seeds) ** 2).sum(-1).argmin(-1)
    inside = (((points / size - 0.5) / 0.42) ** 2).sum(-1) < 1
    return torch.tensor(np.where(inside, np.array(values)[nearest], 0))


def test_at_corners_of_many_labels_foreign_ones_are_rare() -> None:
    label = random_cells(MANY)
    read = decode_labels(encode_labels(label, MANY), MANY).numpy()
    beside = np.zeros(read.shape, bool)
    for value in (0, *MANY):
        beside |= (read == value) & ndimage.binary_dilation(label == value, np.ones((3, 3, 3)))
    assert (~beside).mean() < 1e-4
    assert (read != label.numpy()).mean() < 0.005


def test_shared_channels_bear_noise_better_than_a_channel_a_label() -> None:
    label = random_cells(MANY)
    random = torch.Generator().manual_seed(0)
    soft = encode_labels(label, MANY)
    read = decode_labels(soft + 0.5 * torch.randn(soft.shape, generator=random), MANY)
    assert read.ne(label).float().mean() < 0.03
    alone = torch.cat([encode_labels(label, (value,)) for value in MANY])
    share = (1 + alone + 0.5 * torch.randn(alone.shape, generator=random)) / 2
    strongest = torch.cat([1 - share.sum(dim=0, keepdim=True), share]).argmax(dim=0)
    assert torch.tensor([0, *MANY])[strongest].ne(label).float().mean() > 0.3


# Components


def blocks() -> np.ndarray:
    label = np.zeros((20, 12, 12), np.int64)
    label[1:9, 2:10, 2:10] = 5
    label[9:17, 2:10, 2:10] = 8
    return label


def test_a_speck_becomes_what_surrounds_it() -> None:
    clean = blocks()
    spoiled = clean.copy()
    spoiled[3, 5, 5:7] = 8  # inside the other label
    spoiled[19, 11, 11] = 5  # in the background, at the rim
    spoiled[12, 4, 4] = 5
    before = spoiled.copy()
    np.testing.assert_array_equal(largest_components(spoiled, (5, 8)), clean)
    np.testing.assert_array_equal(spoiled, before)


def test_large_parts_and_diagonal_neighbours_are_no_specks() -> None:
    label = np.zeros((20, 12, 12), np.int64)
    label[:4, :4, :4] = label[10:14, :4, :4] = 3  # left and right
    label[4, 4, 4] = 3
    np.testing.assert_array_equal(largest_components(label, (3,), 0.9), label)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.floats(0, 1))
def test_no_component_is_smaller_than_its_share(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 0, 0, 1, 2, 1035], (8, 7, 9))
    cleaned = largest_components(label, (1, 2, 1035), share)
    assert set(np.unique(cleaned)) == set(np.unique(label))
    for value in (1, 2, 1035):
        parts, _ = ndimage.label(cleaned == value, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        assert sizes.min() >= share * sizes.max()
    if share == 0:
        np.testing.assert_array_equal(cleaned, label)
