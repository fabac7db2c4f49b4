"""All that a model does on another device than the CPU is what it does on the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medgan.anomaly.calibration import ScoringConfig
from medgan.anomaly.context import INPUTS
from medgan.anomaly.scorers import SCORERS, available
from medgan.core.config import Preprocessing
from medgan.core.template import PERCENTILES, Template
from medgan.core.volume import Volume
from medgan.data.prepare import Preparation
from medgan.model.fresh_networks import fresh_localiser, fresh_restorer
from medgan.model.model import Model
from medgan.model.series import series
from medgan.networks.latent import fit
from tests.kit.models import BY_AGE_AND_SEX, SIZES, make_model
from tests.kit.volumes import SIZE, scans

pytestmark = [pytest.mark.fault(45), pytest.mark.usefixtures("in_one_order")]
SCANS = scans(6)


def aligned() -> Preprocessing:
    """A grid on which scans are aligned to the mean ball."""
    volumes = np.stack([Preparation(BY_AGE_AND_SEX)(scan).volume.numpy() for scan in SCANS])
    mean, spread = volumes.mean(axis=0), volumes.std(axis=0)
    marks = np.percentile(mean, PERCENTILES)[None].astype(np.float32)
    template = Template(mean, spread, marks, 0.9)
    return BY_AGE_AND_SEX.model_copy(update={"align": "rigid", "template": template})


def prepared(device: torch.device) -> Model:
    """A model with every network and density, on a device."""
    grid = aligned()
    model = make_model(grid)
    localiser = fresh_localiser(grid, SIZES, tuple(INPUTS))
    model.networks.localiser = localiser
    model.networks.restorer = fresh_restorer(grid, SIZES, ("density",))
    model = replace(model, device=device)
    volumes = torch.rand(6, 1, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model.learn_densities(lambda: volumes.split(4))
    return model


@pytest.fixture(scope="module")
def on_cpu() -> Model:
    return prepared(torch.device("cpu"))


@pytest.fixture
def pair(on_cpu, device) -> tuple[Model, Model]:
    """The model on the CPU and on the device, neither calibrated."""
    return replace(on_cpu), prepared(device)


def alike(found: Volume, expected: Volume, atol: float = 1e-3) -> None:
    reach = np.ptp(expected.data)
    assert np.allclose(found.data, expected.data, atol=max(1.0, atol * reach))


@pytest.mark.long
def test_every_scorer_is_calibrated_and_scores(pair, monkeypatch):
    monkeypatch.setattr("medgan.anomaly.scorers.REFINEMENT", 2)  # steps, all alike
    scores = []
    for model in pair:
        assert available(model.scoring_networks()) == list(SCORERS)
        model.calibrate(SCANS[:5], ScoringConfig(tuple(SCORERS)))
        scores.append(model.score(SCANS[5]))
    expected, found = scores
    for name in SCORERS:
        assert found.parts[name] == pytest.approx(expected.parts[name], rel=0.02, abs=0.02), name
    assert found.score == pytest.approx(expected.score, rel=0.02, abs=0.02)
    alike(found.recon, expected.recon)


@pytest.mark.parametrize("tile", [8, 128])
def test_scans_are_generated_whole_and_in_tiles(pair, tile, monkeypatch):
    monkeypatch.setattr("medgan.model.generation.TILE", tile)
    expected, found = (
        model.generate(2, seed=1, conditions={"age": 70}, truncation=1.0) for model in pair
    )
    for here, there in zip(expected, found, strict=True):
        alike(there.image, here.image)
        assert np.mean(there.label.data != here.label.data) < 0.01


def test_a_scan_is_encoded_inverted_interpolated_and_edited(pair):
    here, there = pair
    assert np.allclose(there.encode(SCANS[0]), here.encode(SCANS[0]), atol=1e-4)
    alike(there.reconstruct(SCANS[0]), here.reconstruct(SCANS[0]))
    found, expected = (
        model.invert(SCANS[0], steps=3, covariates={"age": 40}) for model in (there, here)
    )
    assert found.error_after == pytest.approx(expected.error_after, rel=1e-3)
    between = there.interpolate(found.latent, SCANS[1], 3, steps=1)
    assert len(between) == 3
    found, expected = (model.edit(SCANS[0], {"age": 80}, steps=2) for model in (there, here))
    alike(found.edited, expected.edited)
    for along, far in (("age", 80.0), ("direction:1", 2.0)):
        found, expected = (series(m, SCANS[0], along, [far], steps=0) for m in (there, here))
        alike(found.frames[0].image, expected.frames[0].image)


def test_a_latent_is_fitted_to_a_volume(pair):
    found = []
    for model in pair:
        wanted, start = torch.linspace(-1, 1, 8)[None], torch.zeros(1, 8)
        generate = model.scoring_networks().generate
        with torch.no_grad():
            volume = generate(wanted.to(model.device))
        found.append(fit(generate, volume, start.to(model.device), steps=5))
    expected, there = found
    assert there.latent.device == pair[1].device
    assert there.error_after < there.error_before
    assert torch.allclose(there.latent.cpu(), expected.latent, atol=1e-3)


def test_a_model_is_saved_from_its_device_and_loaded_onto_it(pair, device, tmp_path):
    here, there = pair
    there.calibrate(SCANS[:5])
    there.save(tmp_path)
    loaded = Model.load(tmp_path, str(device))
    assert loaded.score(SCANS[5]).score == pytest.approx(there.score(SCANS[5]).score, rel=1e-3)
    alike(loaded.generate(1)[0].image, here.generate(1)[0].image)
