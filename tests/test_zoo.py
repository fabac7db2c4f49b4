"""The models that come with medgan: they load, draw and score, and are small."""

import json
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.app.pipeline_files import read_pipeline
from medgan.app.steps.scans import PHANTOM_SHAPE, PHANTOM_SPACING
from medgan.core.config import Preprocessing, build
from medgan.data.mni import mni152
from medgan.data.phantoms.data_set import LABELS, make_data_set
from medgan.data.splits import read_splits
from medgan.model.refinement import refined
from medgan.training.start import require_fit

ZOO = Path(__file__).parents[1] / "zoo"
MODELS = sorted(path.parent.name for path in ZOO.glob("*/config.json"))
ONLY_SCORES, ONLY_DRAWS = "brain-anomalies", "brain-4mm"
TRANSLATE = [
    name
    for name in MODELS
    if json.loads((ZOO / name / "config.json").read_text()).get("translator")
]
MOST_BYTES = 16_000_000


def test_there_are_models():
    assert "hippocampus" in MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_small_and_says_where_it_comes_from(name):
    files = [path for path in (ZOO / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    card = (ZOO / name / "card.md").read_text(encoding="utf-8")
    licences = {
        "phantom-head": "Apache-2.0", "sts-mr2ct": "CC BY 3.0", "lidc-nodule": "CC BY 3.0"
    }  # fmt: skip
    assert licences.get(name, "BY-SA") in card
    assert "Research use only" in card
    assert name in (ZOO / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({*MODELS} - {ONLY_SCORES, ONLY_DRAWS, *TRANSLATE}))
def test_a_model_draws_what_varies_and_scores_what_it_drew(name):
    model = medgan.load(ZOO / name)
    first, second = (scan.image for scan in model.generate(2, seed=5))
    assert first.data.shape == model.preprocessing.shape
    difference = np.abs(first.data.astype(float) - second.data).mean()
    assert difference > 0.15 * first.data.std()  # 0.2 to 0.5 between two real phantoms
    result = model.score(first)
    assert 0 < result.p_value <= 1
    assert np.isfinite(result.score_map.data).all()


def test_the_model_that_only_draws_gives_brains_that_differ_inside_and_air_that_does_not():
    model = medgan.load(ZOO / ONLY_DRAWS)
    assert model.calibration is None
    scans = np.stack([scan.image.data for scan in model.generate(3, seed=5)]).astype(float)
    assert scans.shape[1:] == model.preprocessing.shape
    brain = scans.mean(axis=0) > 100
    assert 0.1 < brain.mean() < 0.3
    spread = scans.std(axis=0)
    assert spread[brain].mean() > 20
    assert spread[:, :, -1].max() == 0  # above the head


def test_brains_of_2_mm_start_from_those_of_4_mm():
    model = medgan.load(ZOO / ONLY_DRAWS)
    config = build(read_pipeline("brain_2mm")[1], ["data.brain=none"])
    known = {"spacing": config.data.spacing, "shape": config.data.shape, "brain": config.data.brain}
    require_fit(model.preprocessing.model_copy(update=known), config.model, "synthesis", model)


@pytest.mark.long
def test_the_model_that_only_scores_finds_a_dark_ball_in_the_mean_brain():
    brain = mni152()
    places = np.moveaxis(np.indices(brain.shape), 0, -1) @ brain.affine[:3, :3].T
    ball = np.linalg.norm(places + brain.affine[:3, 3] - (-28.0, 20.0, 28.0), axis=-1) < 10
    sick = brain.like(np.where(ball, 0.4 * brain.data, brain.data).astype(np.float32))
    model = medgan.load(ZOO / ONLY_SCORES)
    assert not model.networks.synthesises
    healthy, found = model.score(brain), model.score(sick)
    assert found.score > healthy.score
    assert found.regions[0].place.startswith("left, ")
    assert ball[found.score_map.data == found.score_map.data.max()].all()


@pytest.mark.data
def test_held_out_hippocampi_are_healthy_to_the_model_and_upside_down_not_comparable(real_data):
    model = medgan.load(ZOO / "hippocampus")
    folder = real_data / "msd_hippocampus"
    wanted = json.loads((real_data / "splits.json").read_text())["msd_hippocampus"]["test"][:8]
    assert read_splits(real_data / "splits.json", folder)
    scans = [folder / "imagesTr" / f"{subject}.nii.gz" for subject in wanted]
    p_values = [model.score(scan).p_value for scan in scans]
    assert min(p_values) >= 1 / 41 - 1e-9
    assert np.mean(p_values) > 0.25
    for scan in scans[:3]:
        upright = medgan.Volume.load(scan)
        upside_down = medgan.Volume(upright.data[:, :, ::-1].copy(), upright.affine)
        result = model.score(upside_down)
        assert result.p_value is None
        assert any("anatomy" in reason for reason in result.reasons)


def test_brains_are_drawn_by_age_and_sex():
    model = medgan.load(ZOO / "ixi-brain")
    young, old = (
        np.mean([(scan.image.data < 500).mean() for scan in drawn])
        for drawn in (
            model.generate(4, seed=1, conditions={"age": age, "sex": "F"}) for age in (22, 75)
        )
    )
    assert old > young  # ventricles and furrows are dark
    women, men = (
        np.mean([(scan.image.data > 50).mean() for scan in drawn])
        for drawn in (model.generate(4, seed=1, conditions={"age": 50, "sex": s}) for s in "FM")
    )
    assert men > women


@pytest.mark.data
def test_held_out_brains_are_comparable_and_turned_or_inverted_ones_are_not(real_data):
    model = medgan.load(ZOO / "ixi-brain")
    folder = real_data / "ixi_brain_2mm"
    wanted = json.loads((real_data / "splits.json").read_text())["ixi_brain_2mm"]["test"][:2]
    for subject in wanted:
        scan = medgan.Volume.load(next((folder / subject).rglob("*T1w.nii.gz")))
        assert model.score(scan).reasons == ()
        turned = medgan.Volume(np.swapaxes(scan.data, 0, 1).copy(), scan.affine)
        assert model.score(turned).p_value is None
        inverted = medgan.Volume(scan.data.max() - scan.data, scan.affine)
        assert model.score(inverted).p_value is None


def test_the_demo_can_start_from_phantom_head():
    config = build(read_pipeline("demo")[1])
    assert config.train.start_from == "zoo/phantom-head"
    values = {"spacing": config.data.spacing, "shape": config.data.shape}
    grid = Preprocessing.model_validate(values | {"labels": tuple(LABELS)})
    require_fit(grid, config.model, config.train.task, medgan.load(ZOO / "phantom-head"))


@pytest.mark.long
def test_phantom_head_finds_the_lesions_of_phantoms_that_it_has_not_seen(tmp_path):
    model = medgan.load(ZOO / "phantom-head")
    make_data_set(tmp_path, 4, 4, PHANTOM_SHAPE, PHANTOM_SPACING, seed=77)
    scans = sorted((tmp_path / "images").iterdir())
    scores = [model.score(scan).score for scan in scans]
    healthy, lesioned = scores[:4], scores[4:]
    above = np.mean([one > other for one in lesioned for other in healthy])
    assert above >= 0.9, (healthy, lesioned)


def limb(rng: np.random.Generator) -> medgan.Volume:
    """A thigh in T1 at 3 mm, laid aslant: bright fat, grey muscle, dark cortex, bright marrow."""
    shape = (60, 56, 40)
    x, y, _ = np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij")
    radius = np.hypot(x, y)
    mr = np.select([radius < 3, radius < 5, radius < 18, radius < 22], [900.0, 60, 350, 1000])
    mr = np.where(radius < 22, mr + rng.normal(0, 20, shape), 0).clip(0)
    affine = np.diag([3.0, 3, 3, 1])
    turn = np.radians(20)
    affine[:2, :2] = 3 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return medgan.Volume(mr.astype(np.float32), affine)


def test_ct_of_a_limb_is_in_its_grid_and_tells_air_fat_and_muscle():
    scan = limb(np.random.default_rng(0))
    found = medgan.load(ZOO / "sts-mr2ct").translate(scan, answers=2)
    ct = found.images["ct"]
    assert ct.data.shape == scan.data.shape
    assert np.allclose(ct.affine, scan.affine)
    x, y, _ = np.meshgrid(*(np.arange(n) - n / 2 for n in ct.shape), indexing="ij")
    radius = np.hypot(x, y)
    fat, muscle = (
        np.median(ct.data[part]) for part in (abs(radius - 20) < 1, abs(radius - 12) < 3)
    )
    assert np.median(ct.data[radius > 27]) < -900
    assert -200 < fat < muscle < 120
    assert found.spread["ct"].data.max() > 0


def test_a_coarse_nodule_in_lung_stays_a_nodule_in_lung():
    rng = np.random.default_rng(0)
    ends = (np.arange(n) - n / 2 for n in (40, 40, 20))
    radius = np.linalg.norm(np.stack(np.meshgrid(*ends, indexing="ij")), axis=0)
    hounsfield = np.where(radius < 6, -50.0, -850.0) + rng.normal(0, 20, radius.shape)
    scan = medgan.Volume(hounsfield.astype(np.float32), np.diag([1.25, 1.25, 2.5, 1]))
    found = refined(medgan.load(ZOO / "lidc-nodule"), scan, radius < 6, "c-1", seed=0)
    assert -300 < np.median(found[radius < 4]) < 150
    assert abs(np.median(found[(radius > 8) & (radius < 10)]) + 850) < 120
