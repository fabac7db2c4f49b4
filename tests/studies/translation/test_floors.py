"""Floors of translation on scans whose target follows from their source by a rule."""

from dataclasses import replace

import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.evaluation.translation.metrics import mean_absolute_error
from medgan.studies.translation.features import depth_mm, local, position
from medgan.studies.translation.floors import Constant, Regression, fit_floors
from medgan.studies.translation.scans import Channels, PairedScan, paired_scan
from tests.kit.paired_scans import MR_AND_CT, paired

MR_TO_CT = Channels(("T1w",), ("ct",), MR_AND_CT)


def scan(seed: int, channels: Channels = MR_TO_CT) -> PairedScan:
    return paired_scan(paired(seed), channels, f"c-{seed}", f"s-{seed}")


def error(prediction: np.ndarray, one: PairedScan, channel: str) -> float:
    return mean_absolute_error(prediction, one.target[channel], one.region(channel))


def test_what_counts_is_body_that_was_seen_in_every_channel() -> None:
    for channels in (MR_TO_CT, Channels(("ct",), ("T1w",), MR_AND_CT)):
        one = scan(0, channels)
        region = one.region(channels.target[0])
        assert not region[..., 13:].any()
        assert (region[..., :13] == one.body[..., :13]).all()
        assert one.body[..., 13:].any()
        assert one.tumour is not None
        assert (one.tumour & region).any()


def test_the_source_knows_its_body_without_the_target() -> None:
    one = scan(0)
    assert not one.source_body[..., 13:].any()
    assert (one.source_body == one.body)[..., :13].mean() > 0.99


def test_axes_are_turned_to_right_anterior_superior() -> None:
    stored = paired(0)
    one = paired_scan(stored, MR_TO_CT, "c-0", "s-0")
    assert (one.target["ct"][::-1, ::-1] == stored.images["ct"].volume.data).all()


def test_a_scan_in_which_no_channel_sees_what_the_other_sees_is_refused() -> None:
    stored = paired(0)
    stored.images["T1w"].volume.data[..., :13] = 0
    stored.images["T1w"].volume.data[0, 0, 0] = 1
    with pytest.raises(DataError, match="E_CONTRAST c-0"):
        paired_scan(stored, MR_TO_CT, "c-0", "s-0")


def test_the_constant_is_the_median_in_and_outside_of_the_body() -> None:
    scans = [scan(seed) for seed in range(2)]
    inside = np.concatenate([s.target["ct"][s.region("ct")] for s in scans])
    found = Constant(scans, "ct")(scans[0])
    assert np.unique(found) == pytest.approx([-1000, np.median(inside)])
    assert ((found > -900) == scans[0].source_body).all()


def test_position_is_relative_to_the_body_and_deep_inside() -> None:
    one = scan(0)
    found = position(one)[one.source_body]
    assert found[:, :3].min(axis=0).tolist() == [0, 0, 0]
    assert found[:, :3].max(axis=0).tolist() == [1, 1, 1]
    assert (found[:, 3] >= 4).all()  # mm: a voxel has 4
    assert (position(one)[~one.source_body][:, 3] < 0).all()
    whole = np.ones((4, 5, 6), bool)
    assert (depth_mm(whole, one.spacing) > 0).all()


def test_local_features_of_a_flat_image_are_flat_up_to_the_edge_of_what_was_seen() -> None:
    one = scan(0)
    flat = np.where(np.isfinite(one.source["T1w"]), np.float32(300), np.float32(np.nan))
    found = local(replace(one, source={"T1w": flat}))[..., 4:]
    seen = np.isfinite(flat)
    assert np.isnan(found[~seen]).all()
    assert found[seen][:, :4] == pytest.approx(300, rel=1e-4)
    assert found[seen][:, 4:] == pytest.approx(0, abs=0.6)


@pytest.mark.long
def test_a_regression_learns_a_rule_that_a_place_does_not_tell() -> None:
    train, test = [scan(seed) for seed in range(4)], scan(9)
    floors = fit_floors(train, "ct")
    errors = {name: error(floor(test), test, "ct") for name, floor in floors.items()}
    assert errors["regression"] < 4 < 0.5 * errors["mean image"]
    assert errors["mean image"] < errors["constant"]


def test_a_regression_is_the_same_again_with_the_same_seed() -> None:
    train = [scan(seed) for seed in range(2)]
    first, second = (Regression(train, "ct", position, seed=1)(train[0]) for _ in range(2))
    assert (first == second).all()
