import logging

import numpy as np
import pytest

from medgan.core.config import DataConfig, Preprocessing
from medgan.core.volume import Volume
from medgan.data import cleaning
from medgan.data.batches import PreparedVolumes
from medgan.data.brain.mask import brain_mask
from medgan.data.cleaning import clean
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render
from medgan.data.prepare import Preparation

MM = 3.0
GRID = {"spacing": (4.0, 4.0, 4.0), "shape": (48, 48, 48)}


@pytest.fixture(scope="module")
def head():
    """A phantom, not in the middle of its field of view, and its labels."""
    rng = np.random.default_rng(0)
    image, labels = render(sample_head(rng, 30.0), (64, 76, 64), MM, rng)
    pad = ((0, 0), (0, 0), (24, 0))
    affine = np.diag([MM, MM, MM, 1.0])
    affine[:3, 3] = 12.0, -7.0, 30.0
    image = np.pad(image, pad, mode="edge").astype(np.float32)
    return Volume(image, affine), np.pad(labels, pad)


@pytest.fixture(scope="module", autouse=True)
def outlined_once():
    """The networks look at each scan once in all tests of this module."""
    known = {}

    def outlined(scan, case):
        key = scan.data.tobytes()
        if key not in known:
            known[key] = brain_mask(scan, case)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cleaning, "brain_mask", outlined)
        yield outlined


@pytest.fixture(scope="module")
def found(head):
    return clean([head[0]], Preprocessing(**GRID, brain="deepbet"), "c")


@pytest.fixture(scope="module")
def prepared(head):
    return Preparation(Preprocessing(**GRID, brain="deepbet"))(head[0])


def test_no_setting_changes_nothing(head):
    assert clean([head[0]], Preprocessing(**GRID), "c") is None


def test_outside_the_brain_is_background_and_inside_it_the_scan(head, found):
    image, labels = head
    (part,) = found.volumes
    brain = found.cut(image.like(labels)).data > 0
    assert (part.data[brain] == found.cut(image).data[brain]).mean() > 0.99
    black = part.data == np.quantile(image.data[::2, ::2, ::2], 0.005).astype(np.float32)
    assert 0.3 < black.mean() < 0.7
    assert part.data.size < 0.6 * image.data.size


def test_every_voxel_of_the_part_keeps_its_place(head, found):
    image, _ = head
    (part,) = found.volumes
    index = np.array([3, 4, 5])
    world = part.affine @ [*index, 1]
    start = np.array([one.start for one in found.box])
    assert np.allclose(image.affine @ [*(index + start), 1], world)
    whole = found.embed(part.data, -1.0)
    assert whole.shape == image.data.shape
    assert (whole[found.box] == part.data).all()
    assert (whole == -1).sum() == whole.size - part.data.size


def test_a_scan_without_a_skull_keeps_every_value(head, outlined_once, caplog):
    image, _ = head
    scan = image.like(np.where(outlined_once(image, "c"), image.data, 0))
    with caplog.at_level(logging.DEBUG, logger="medgan.data.cleaning"):
        found = clean([scan], Preprocessing(**GRID, brain="deepbet"), "sub-7")
    assert "sub-7: its skull is stripped already" in caplog.text
    assert (found.embed(found.volumes[0].data, 0.0) == scan.data).all()


@pytest.mark.slow
def test_a_head_whose_air_is_masked_out_is_stripped_all_the_same(head):
    image, labels = head
    zeroed = image.like(np.where(image.data < 0.1 * image.data.max(), 0, image.data))
    assert (zeroed.data == 0).mean() > 0.3
    found = clean([zeroed], Preprocessing(**GRID, brain="deepbet"), "c")
    scalp = zeroed.data > np.percentile(zeroed.data[labels > 0], 99.9)
    assert scalp.sum() > 10_000
    assert (found.embed(found.volumes[0].data, 0.0)[scalp] > 0).mean() < 0.1


@pytest.mark.slow
def test_a_small_head_whose_air_is_masked_out_is_stripped_all_the_same(head):
    """A child's head is no larger than a stripped brain."""
    image, labels = head
    affine = image.affine @ np.diag([0.75, 0.75, 0.75, 1.0])
    small = Volume(np.where(image.data < 0.1 * image.data.max(), 0, image.data), affine)
    assert (small.data > 0).sum() * (0.75 * MM) ** 3 < 2_000_000
    found = clean([small], Preprocessing(**GRID, brain="deepbet"), "c")
    scalp = small.data > np.percentile(small.data[labels > 0], 99.9)
    assert (found.embed(found.volumes[0].data, 0.0)[scalp] > 0).mean() < 0.1


def test_maps_come_back_to_the_grid_of_the_file(head, prepared):
    image, labels = head
    back = prepared.in_scanner_units(prepared.volume[0].numpy())
    assert back.data.shape == image.data.shape
    assert (back.affine == image.affine).all()
    brain = labels > 0
    assert np.corrcoef(back.data[brain], image.data[brain])[0, 1] > 0.8
    score = prepared.back(np.ones(GRID["shape"], np.float32), outside=0.0)
    assert (score.data[brain] == 1).mean() > 0.99
    assert (score.data[:, :, :20] == 0).all()


def test_label_maps_are_cut_with_their_scan(head, prepared):
    image, labels = head
    found = prepared.label_map(image.like(labels))
    assert (found > 0).sum() * 4.0**3 == pytest.approx((labels > 0).sum() * MM**3, rel=0.05)
    assert (prepared.volume[0].numpy()[found > 0] > -1).mean() > 0.95


@pytest.mark.slow
def test_n4_alone_leaves_the_whole_field_of_view(head):
    image, _ = head
    ramp = np.exp(np.linspace(-0.5, 0.5, image.data.shape[0]))[:, None, None]
    shaded = image.like((image.data * ramp).astype(np.float32))
    found = clean([shaded], Preprocessing(**GRID, bias="n4"), "c")
    plain = clean([image], Preprocessing(**GRID, bias="n4"), "c")
    assert found.volumes[0].data.shape == image.data.shape
    tissue = image.data > np.percentile(image.data, 70)
    left = np.log(found.volumes[0].data / plain.volumes[0].data)[tissue]
    assert left.std() < 0.3 * np.log(ramp * np.ones_like(image.data))[tissue].std()


@pytest.mark.slow
def test_channels_share_the_brain_of_the_t1_and_ct_has_no_bias_field(head):
    image, _ = head
    ct = image.like((image.data - 1000).astype(np.float32))
    setup = Preprocessing(
        **GRID, channels=("CT", "T1w"), intensity={"CT": "ct", "T1w": "mri"},
        brain="deepbet", bias="n4",
    )  # fmt: skip
    found = clean([ct, image], setup, "c")
    first, second = (one.data for one in found.volumes)
    inside = first > np.quantile(ct.data, 0.005)
    assert (first[inside] == found.cut(ct).data[inside]).all()
    assert (second[inside] != found.cut(image).data[inside]).mean() > 0.9


def test_ct_alone_has_neither():
    with pytest.raises(ValueError, match=r"data\.brain and data\.bias are for MRI"):
        DataConfig(intensity="ct", brain="deepbet")


def test_prepared_volumes_of_before_are_found_again(tmp_path):
    """Neither setting is in the key of the cache unless it is used."""
    plain = PreparedVolumes([], Preprocessing(**GRID), tmp_path)
    assert "brain" not in plain._policy
    assert "bias" not in plain._policy
    used = PreparedVolumes([], Preprocessing(**GRID, brain="deepbet", bias="n4"), tmp_path)
    assert '"brain":"deepbet"' in used._policy
    assert '"bias":"n4"' in used._policy
