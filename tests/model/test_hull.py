import logging

import numpy as np
import pytest
import torch

from medgan.core.volume import Volume
from medgan.model.hull import LEVEL, Hull, remark_on, share_longer
from medgan.model.inversion import learn_hull
from medgan.model.model import Model
from medgan.model.series import series
from tests.kit.models import ageing_model
from tests.kit.volumes import AFFINE, ball


def test_of_random_latents_the_share_that_is_longer_is_uniform():
    latents = np.random.default_rng(0).standard_normal((4000, 64))
    shares = np.array([share_longer(one) for one in latents])
    assert np.quantile(shares, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)


def test_a_long_latent_is_remarked_on_and_a_short_or_usual_one_is_not():
    usual = np.ones(64)
    assert remark_on([usual, 0.1 * usual]) == ""
    assert remark_on([usual, -1.4 * usual]).startswith("a latent of 1.40 times the usual length")


def test_of_truncated_latents_the_share_that_is_longer_is_that_among_truncated_ones():
    usual = np.full(64, 0.5)
    assert share_longer(usual) > 0.999
    assert 0.2 < share_longer(usual, 1.0) < 0.999
    assert share_longer(np.ones(64), 1.0) == 0
    assert share_longer(np.ones(64), 9.0) == pytest.approx(share_longer(np.ones(64)), abs=0.02)


def test_scans_like_the_training_scans_are_flagged_at_the_nominal_rate_and_others_always():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((16, 16))
    training, held_out, fresh = (
        (rng.standard_normal((n, 16)) @ mixing + 3).astype(np.float32) for n in (120, 99, 1000)
    )
    hull = Hull.learn(training, held_out)
    flagged = np.mean(np.array(hull.p_values(fresh)) <= LEVEL)
    assert flagged == pytest.approx(LEVEL, abs=0.04)
    p_values = hull.p_values(fresh[:1] + 8 * mixing[:1])
    assert p_values == [0.01]
    assert hull.remark_on([0.5, *p_values], ["one", "another"]) == (
        "another is unlike the scans trained on: farther from them than 99 of 99 held-out scans "
        "(p = 0.01)"
    )
    assert hull.remark_on([0.5, 0.06], ["one", "another"]) == ""


def prepared(model, seed):
    return model.prepare(Volume(ball(np.random.default_rng(seed)).astype(np.float32), AFFINE))


@pytest.fixture(scope="module")
def model():
    """A model of balls, of which age changes the brightness, with its hull."""
    model = ageing_model()
    pool = torch.nn.functional.adaptive_avg_pool3d  # random weights hardly see brightness
    model.networks.encoder.forward = lambda volume: pool(volume, 2).flatten(1)
    volumes = torch.stack([prepared(model, seed).volume for seed in range(30)])
    model.hull = learn_hull(model, volumes[:20].split(8), volumes[20:].split(8))
    return model


def test_an_edit_far_out_is_remarked_on_and_a_near_one_is_not(model, caplog):
    scan, known = prepared(model, 40), {"age": 50}
    near = model.edit(scan, {"age": 51}, known, steps=0)
    assert near.p_value > 1 / 11
    assert near.remarks == ()
    with caplog.at_level(logging.WARNING):
        far = model.edit(scan, {"age": 5000}, known, steps=0)
    assert far.p_value == pytest.approx(1 / 11)
    assert far.remarks[0].startswith("the edited scan is unlike the scans trained on")
    assert far.remarks[0] in caplog.text
    assert far.inversion.p_value == near.inversion.p_value
    assert far.inversion.remarks == ()


def test_a_series_names_the_frame_that_leaves_what_was_seen(model):
    found = series(model, prepared(model, 40), "age", [50, 51, 5000], {"age": 50}, steps=0)
    assert found.frames[0].p_value == found.inversion.p_value
    assert found.frames[0].p_value > 1 / 11
    assert found.frames[2].p_value == pytest.approx(1 / 11)
    assert [remark[:21] for remark in found.remarks] == ["the scan at age 5000 "]


def test_the_hull_lies_in_the_models_folder_but_not_in_a_shared_one(tmp_path):
    model = ageing_model()
    latents = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    model.hull = Hull.learn(latents[:10], latents[10:])
    model.save(tmp_path / "m")
    read = Model.load(tmp_path / "m")
    assert read.hull.p_values(latents) == model.hull.p_values(latents)
    read.share(tmp_path / "s")
    assert Model.load(tmp_path / "s").hull is None
    read.hull = None
    read.save(tmp_path / "m")
    assert not (tmp_path / "m" / "hull.safetensors").exists()
    assert read.invert(prepared(read, 40), steps=0).p_value is None
