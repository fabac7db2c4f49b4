"""Scorers are chosen on validation scans with planted lesions."""

import numpy as np
import pytest
import torch

from medgan.anomaly.calibration import ScoringConfig, calibrate
from medgan.training.trials import choose_scorers
from tests.kit.volumes import phantom_volumes


@pytest.fixture(scope="module")
def heads() -> torch.Tensor:
    return phantom_volumes(8)


def test_a_scorer_that_sees_lesions_is_chosen_before_one_that_sees_noise(heads):
    smooth = torch.nn.AvgPool3d(5, 1, 2)
    mean = heads[:5].mean(dim=0)

    def maps(volumes):
        noise = torch.rand(volumes.shape, generator=torch.Generator().manual_seed(1))
        return {"noise": noise, "change": smooth((volumes - mean).abs())}

    calibration = calibrate(maps(heads[:5]), ScoringConfig(("noise", "change")))
    seen: list[int] = []
    validation = list(heads[5:].numpy())
    choice = choose_scorers(
        maps, calibration, validation, 0, lambda done, total: seen.append(done * 10 + total)
    )
    assert choice.scorers[0] == "change"
    assert choice.alone["change"] > choice.alone["noise"] + 0.05
    assert seen == [13, 23, 33]
    again = choose_scorers(maps, calibration, validation, 0)
    assert again == choice


def test_scans_of_several_channels_are_chosen_on_too(heads):
    def maps(volumes):
        return {"dark": -volumes.mean(dim=1, keepdim=True)}

    both = torch.cat([heads, heads], dim=1)
    calibration = calibrate(maps(both[:5]), ScoringConfig(("dark",)))
    choice = choose_scorers(maps, calibration, list(both[5:7].numpy()), 0)
    assert choice.scorers == ("dark",)
    assert np.isfinite(choice.power)
