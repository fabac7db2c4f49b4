import pytest
import torch
from scipy import ndimage

from medgan.evaluation.privacy.copies import (
    closeness,
    excess,
    mask_same_subject,
    not_authentic,
    permutation_range,
    similarity,
    smallest_detectable_excess,
    upper_bound_of_copies,
)
from medgan.evaluation.privacy.distortions import distort
from tests.kit.volumes import subjects


def test_a_volume_is_like_itself_and_similarity_is_symmetric():
    volumes = subjects(5, 0)
    found = similarity(volumes, volumes)
    assert found.diagonal().allclose(torch.ones(5), atol=1e-5)
    assert found.allclose(found.T, atol=1e-5)
    assert found.max() <= 1


def test_similarity_of_a_pair_depends_on_no_other_volume():
    a, b = subjects(3, 0), subjects(4, 1)
    assert similarity(a, b)[1:2, 2:3].allclose(similarity(a[1:2], b[2:3]), atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: torch.roll(v, (2, -1, 2), (2, 3, 4)),
        lambda v: 0.6 * v - 0.2,
        lambda v: 2 * ((v + 1) / 2) ** 1.5 - 1,
        lambda v: v + 0.1 * torch.randn(v.shape, generator=torch.Generator().manual_seed(0)),
        lambda v: torch.from_numpy(ndimage.gaussian_filter(v.numpy(), (0, 0, 0.7, 0.7, 0.7))),
        lambda v: distort(v, 1),
    ],
    ids=["shift", "gain", "gamma", "noise", "blur", "all"],
)
def test_a_changed_copy_is_far_more_like_its_original_than_other_people_are(change):
    volumes = subjects(12, 0)
    found = similarity(change(volumes), volumes)
    others = found.masked_fill(torch.eye(12, dtype=torch.bool), -1)
    assert found.diagonal().min() > others.max() + 0.1


def test_a_volume_without_details_is_like_nothing():
    assert similarity(torch.full((1, 1, 16, 16, 16), 0.3), subjects(2, 0, (16, 16, 16))).eq(0).all()


def test_air_that_two_volumes_share_makes_them_neither_more_nor_less_alike():
    volumes = subjects(3, 0)
    volumes[:, :, :12] = -1.0  # half of each is air, but for what the filter carries over
    found = similarity(volumes, volumes)
    assert found.diagonal().allclose(torch.ones(3), atol=1e-5)
    assert found[0, 1] < 0.9


def test_large_grids_are_halved_and_still_told_apart():
    volumes = subjects(2, 0, (80, 64, 64))
    found = similarity(volumes, volumes)
    assert found.diagonal().allclose(torch.ones(2), atol=1e-5)
    assert found[0, 1] < 0.9


def test_closeness_leaves_what_a_volume_has_in_common_with_everybody():
    typical = torch.tensor([[0.6, 0.7]]), torch.tensor([[0.5, 0.7]])
    copy = torch.tensor([[0.2, 0.9]]), torch.tensor([[0.3, 0.1]])
    assert closeness(*typical).tolist() == pytest.approx([0.0])
    assert closeness(*copy).tolist() == pytest.approx([0.6])


def test_scans_of_one_person_are_left_out():
    rows, columns = torch.tensor([0, 1]), torch.tensor([1, 2, 1])
    assert mask_same_subject(torch.ones(2, 3), rows, columns).tolist() == [[1, 1, 1], [-1, 1, -1]]


@pytest.mark.parametrize(("volumes", "fresh"), [(100, 20), (300, 60)])
def test_the_excess_of_fresh_draws_covers_none_about_95_times_in_100(volumes, fresh):
    random = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(300):
        scans, others = (torch.randn(n, generator=random) for n in (volumes, fresh))
        found = excess(scans, others)
        covered += found.share.low <= 0 <= found.share.high
    assert 0.92 <= covered / 300 <= 0.99


def test_planted_copies_raise_the_excess_by_their_share():
    random = torch.Generator().manual_seed(0)
    fresh, scans = torch.randn(80, generator=random), torch.randn(160, generator=random)
    scans = scans.clamp(max=float(fresh.median()))  # none flagged
    before = excess(scans, fresh)
    after = excess(torch.cat([scans, torch.full((40,), 9.0)]), fresh)
    assert after.share.value - before.share.value == pytest.approx(40 / 200)
    assert after.share.low > 0 >= before.share.low


def test_the_smallest_excess_that_is_noticed_is_noticed_and_one_less_is_not():
    fresh = torch.arange(40.0)
    flagged = round((smallest_detectable_excess(200, 40) + 2 / 41) * 200)
    found = [
        excess(torch.where(torch.arange(200) < n, 99.0, -1.0), fresh).share.low
        for n in (flagged - 1, flagged)
    ]
    assert found[0] <= 0 < found[1]
    assert smallest_detectable_excess(1000, 200) < smallest_detectable_excess(100, 20)


def test_no_copy_among_300_leaves_room_for_the_share_of_the_closed_form():
    assert upper_bound_of_copies(0, 300) == pytest.approx(1 - 0.025 ** (1 / 300))
    assert upper_bound_of_copies(3, 300) > upper_bound_of_copies(0, 300)


def test_a_scan_nearer_to_another_than_that_is_to_its_own_neighbour_is_not_authentic():
    place = torch.tensor([0.0, 1.0, 5.0])
    between = -(place[:, None] - place).abs() / 10
    between.fill_diagonal_(-1)
    queries = torch.tensor([0.2, 3.5, 9.5])
    to_references = -(queries[:, None] - place).abs() / 10
    # Distances to the nearest: 0.2 (its own neighbour at 1), 1.5 (at 4), 4.5 (at 4).
    assert not_authentic(to_references, between).tolist() == [True, True, False]


def test_what_membership_does_not_change_lies_in_the_range_of_exchanges():
    values = torch.randn(60, generator=torch.Generator().manual_seed(0))
    member = torch.arange(60) < 40

    def metric(a, b):
        return float(values[a].mean() - values[b].mean())

    same = permutation_range(metric, member, torch.arange(60), draws=200)
    values = values + 2.0 * member
    moved = permutation_range(metric, member, torch.arange(60), draws=200)
    assert same.low < same.value < same.high
    assert moved.value > moved.high


def test_both_sides_of_an_exchange_have_equally_many_subjects():
    sizes = set()

    def metric(a, b):
        sizes.add((len(a), len(b)))
        return 0.0

    subject = torch.arange(60) // 2  # two scans each
    permutation_range(metric, torch.arange(60) < 44, subject, draws=10)
    assert sizes == {(16, 16)}
