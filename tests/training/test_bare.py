"""A model without generator and restorer: from a folder of heads to scores."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ConfigError, ModelError
from medgan.core.volume import Volume
from medgan.data.phantoms.heads import sample_head
from medgan.data.phantoms.rendering import render

SHAPE = (32, 48, 32)
CONFIG = {
    "data": {
        "spacing": [6, 6, 6],
        "shape": list(SHAPE),
        "labels": [],
        "align": "rigid",
        "fractions": [0.25, 0.36, 0.36, 0.03],
    },
    "model": {"latent": 8, "widths": [8, 8], "stem_channels": 4},
    "localiser": {"volumes": 8},
    "tracking": {"uri": "none"},
}


def head(number: int) -> Volume:
    """A phantom of 6 mm that lies turned in the scanner."""
    rng = np.random.default_rng([7, number])
    image, _ = render(sample_head(rng, 40.0), SHAPE, 6.0, rng)
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, :3] = Rotation.from_rotvec([0, 0, np.radians(number % 5)]).as_matrix() * 6.0
    return Volume(image.astype(np.float32), affine)


def trained(folder: Path, **data: object) -> Path:
    (folder / "scans").mkdir()
    for number in range(14):
        head(number).save(folder / "scans" / f"head{number}.nii.gz")
    config = CONFIG | {"data": {**CONFIG["data"], "source": str(folder / "scans"), **data}}
    pipeline = folder / "bare.yaml"
    steps = ["index", "bare", "scorers", "calibrate"]
    pipeline.write_text(yaml.safe_dump({"steps": steps, "config": config}))
    run_pipeline(str(pipeline), [f"out={folder / 'out'}"])
    return folder / "out" / "model"


@pytest.mark.slow
def test_without_a_generator_a_model_finds_what_was_planted(tmp_path: Path) -> None:
    model = medgan.load(trained(tmp_path))
    assert not model.networks.synthesises
    assert model.networks.localiser is not None
    assert model.calibration is not None
    assert set(model.calibration.scoring_config.scorers) <= {
        "localiser", "density", "darker", "brighter",
    }  # fmt: skip
    assert "alone: " in model.facts["scorers_chosen"]
    scan = head(30)
    sick = np.array(scan.data)
    sick[13:19, 26:32, 13:19] = 0
    healthy, found = model.score(scan), model.score(Volume(sick, scan.affine))
    assert found.score > healthy.score
    np.testing.assert_allclose(found.recon.affine, scan.affine)
    assert found.recon.data.shape == SHAPE
    with pytest.raises(ModelError) as caught:
        model.generate(1)
    assert caught.value.code == "E_GENERATOR"


def test_without_alignment_nothing_says_what_is_healthy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trained(tmp_path, align="none")
    assert caught.value.code == "E_SET"
