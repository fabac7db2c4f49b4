"""Attacks on a model folder."""

import numpy as np
import pytest
import torch

from medgan.core.template import Template
from medgan.model.fresh_networks import fresh_restorer
from medgan.model.model import Model
from medgan.networks.gan import Networks
from medgan.reporting.audit import ATTACKS
from medgan.studies.white_box import SCORERS, white_box_scores
from tests.kit.models import GRID, SIZES, make_model

ALONE = GRID.model_copy(update={"labels": ()})


@pytest.fixture(scope="module")
def volumes():
    """Members and held-out scans, twelve each, without anything in common."""
    return torch.rand(24, 1, *GRID.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_mean_scan_tells_the_scans_that_it_is_the_mean_of(volumes):
    members = volumes[:12].numpy()
    landmarks = np.zeros((1, 11), np.float32)
    template = Template(members.mean(axis=0), members.std(axis=0), landmarks, 0.9)
    grid = ALONE.model_copy(update={"align": "rigid", "template": template})
    found = white_box_scores(Model(Networks(), grid, SIZES), volumes)
    assert set(found) == {"deviation"}
    assert found["deviation"][:12].min() > found["deviation"][12:].max()


def test_a_restorer_is_attacked_by_what_it_changes(volumes):
    torch.manual_seed(0)
    restorer = fresh_restorer(ALONE, SIZES, ())
    done = []
    model = Model(Networks(restorer=restorer), ALONE, SIZES)
    found = white_box_scores(model, volumes, lambda *at: done.append(at))
    assert set(found) == {"restoration"}
    with torch.inference_mode():
        changed = (restorer(volumes[3:4]) - volumes[3:4]).abs().mean()
    assert float(found["restoration"][3]) == pytest.approx(-float(changed), rel=1e-4)
    assert done == [(8, 24), (16, 24), (24, 24)]


def test_the_page_says_what_every_attack_goes_by(volumes):
    known = {"logit", "flatness", "hull", "deviation", *SCORERS}
    assert known | {"nearest", "nearest beyond usual", "features", "neighbours"} == set(ATTACKS)
    assert set(white_box_scores(make_model(ALONE), volumes[:2])) <= known
