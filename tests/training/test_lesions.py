"""A model that refines lesions, from its training to scans with refined lesions."""

import numpy as np
import pytest
import yaml
from scipy import ndimage

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ModelError
from medgan.core.volume import Volume
from tests.kit.models import make_model
from tests.workflows.test_lesions import pairs

SETTINGS = {
    "data": {
        "spacing": [2, 2, 2], "shape": [16, 16, 16], "patches": True, "labels": [1],
        "intensity": "ct", "window": "lung", "fractions": [0.5, 0.3, 0.1, 0.1],
    },
    "model": {"latent": 8, "widths": [16, 16], "stem_channels": 16, "blocks": 1},
    "train": {
        "task": "lesions", "metric": "translation", "volumes": 48, "batch": 4, "warmup": 4,
        "sample_every": 24, "learning_rate": 0.002, "precision": "fp32",
    },
    "translate": {"adversarial": 0.3},
    "tracking": {"uri": "none"},
}  # fmt: skip
AFFINE = np.array([[0, -2.0, 0, 5], [2.0, 0, 0, 7], [0, 0, 1.5, 9], [0, 0, 0, 1]])


def lung(rng, nodule):
    """HU of lung with a vessel; with a nodule of 5 mm whose rim is denser than its middle."""
    shape = (24, 20, 26)
    steps = np.indices(shape) - np.array(shape)[:, None, None, None] / 2
    steps += rng.uniform(-2, 2, 3)[:, None, None, None]
    away = np.linalg.norm(steps * np.array([2, 2, 1.5])[:, None, None, None], axis=0)
    data = -850 + 30 * ndimage.gaussian_filter(rng.standard_normal(shape), 0.7)
    data[:, 4:6] = -200
    if nodule:
        data = np.where(away <= 7, np.where(away > 4, 80, -150), data)
    return data.astype(np.int16), (away <= 7).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodules")
    rng = np.random.default_rng(0)
    for number in range(12):
        data, mask = lung(rng, nodule=True)
        Volume(data, AFFINE).save(folder / f"patients/p{number}.nii.gz")
        Volume(mask, AFFINE).save(folder / f"patients/p{number}_label.nii.gz")
    for number in range(2):
        Volume(lung(rng, nodule=False)[0], AFFINE).save(folder / f"healthy/h{number}.nii.gz")
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": SETTINGS}))
    settings = [f"out={folder / 'out'}", f"data.source={folder / 'patients'}"]
    done = run_pipeline(str(pipeline), settings)
    (command,) = done.results["train"].commands
    assert command.startswith("medgan lesions ")
    return folder


def draw(folder, out, model):
    return run_pipeline(
        "draw_lesions",
        [*([f"model_uri={model}"] if model else []), f"out={out}",
         f"data.source={folder / 'healthy'}", f"draw.examples={folder / 'patients'}",
         "draw.masks=examples", "data.intensity=ct"],
    )  # fmt: skip


def test_a_refined_lesion_changes_nothing_beyond_the_margin(trained, tmp_path):
    draw(trained, tmp_path / "refined", trained / "out" / "model")
    draw(trained, tmp_path / "coarse", "")
    found = {name: list(pairs(tmp_path / name)) for name in ("refined", "coarse")}
    assert len(found["refined"]) == 2
    for (before, refined, label), (_, coarse, same) in zip(*found.values(), strict=True):
        mask = label.data == 1
        assert np.array_equal(label.data, same.data)
        outside = ndimage.distance_transform_edt(~mask, before.spacing) >= 3
        assert np.array_equal(before.data[outside], refined.data[outside])
        assert (refined.data != coarse.data)[mask].mean() > 0.5
        assert abs(refined.data[mask].mean() - coarse.data[mask].mean()) < 250
        assert refined.data[mask].mean() > -400


def test_a_model_of_another_task_is_refused_and_this_one_translates_nothing(trained, tmp_path):
    other = make_model()
    other.save(tmp_path / "model")
    with pytest.raises(ModelError, match="E_TRANSLATOR the model: does not refine lesions"):
        draw(trained, tmp_path / "out", tmp_path / "model")
    model = medgan.load(trained / "out" / "model")
    with pytest.raises(ModelError, match="refines lesions"):
        model.translate(Volume(lung(np.random.default_rng(1), True)[0], AFFINE))
