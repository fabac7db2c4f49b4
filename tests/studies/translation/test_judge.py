"""The judge of translated images on images whose difference is known."""

import numpy as np
import pytest
import torch

from medgan.studies.translation.judge import EDGE, Judged, _patches, judge

SHAPE = (24, 20, 12)


def patient(seed: int, shift: float) -> Judged:
    rng = np.random.default_rng(seed)
    source = rng.normal(0, 0.2, (1, *SHAPE))
    real = -source + rng.normal(0, 0.05, (1, *SHAPE))
    drawn = -source + rng.normal(0, 0.05, (1, *SHAPE)) + shift
    region = np.ones(SHAPE, bool)
    region[:4] = False
    return Judged(source, real, drawn, region)


@pytest.mark.slow
def test_equal_images_cannot_be_told_apart_and_shifted_ones_can() -> None:
    alike = judge([patient(seed, 0.0) for seed in range(6)], steps=60)
    shifted = judge([patient(seed, 0.2) for seed in range(6)], steps=60)
    assert len(alike) == 6
    assert abs(np.mean(alike) - 0.5) < 0.15
    assert min(shifted) > 0.9


def test_the_judge_sees_the_source_and_nothing_outside_of_the_region() -> None:
    one = patient(0, 0.0)
    outside = one._replace(drawn=np.where(one.region, one.real, 7.0))
    real, drawn = _patches(outside, np.random.default_rng(0))
    assert real.shape[1:] == (2, EDGE, EDGE, EDGE)
    assert torch.equal(real, drawn)
    real, drawn = _patches(one, np.random.default_rng(0))
    assert torch.equal(real[:, 1], drawn[:, 1])
    assert not torch.equal(real[:, 0], drawn[:, 0])
