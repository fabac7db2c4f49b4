import json

import numpy as np
import pytest
import torch
import yaml

import medgan
from medgan.anomaly.calibration import ScoringConfig
from medgan.anomaly.scorers import available
from medgan.app.pipeline import run_pipeline
from medgan.core.config import build
from medgan.core.errors import ConfigError, ModelError
from medgan.core.template import Template
from medgan.core.volume import Volume
from medgan.data.batches import Batch, PreparedVolumes
from medgan.model.fresh_networks import fresh_restorer, restorer_inputs
from medgan.networks.restorer import Parts
from medgan.training import loop
from medgan.training.restored import contrast_removed
from medgan.training.tasks import chosen_task
from tests.kit.data_sets import TINY, write_folder
from tests.kit.interruption import same_weights, stop_at
from tests.kit.models import CONFIG, GRID
from tests.kit.volumes import AFFINE, ball

CPU = torch.device("cpu")


@pytest.fixture
def training(tmp_path):
    """A call that trains a restorer on small scans into a folder."""
    source = write_folder(tmp_path / "scans", 12)
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(
        yaml.safe_dump({"steps": ["index", "train"], "config": TINY | {"localiser": {}}})
    )
    settings = [
        "train.task=restoration",
        "train.metric=restoration",
        f"data.source={source}",
    ]

    def run(name="out"):
        out = tmp_path / name
        run_pipeline(str(pipeline), [f"out={out}", *settings])
        return out

    return run


class InMemory(PreparedVolumes):
    """Volumes that were never files."""

    def __init__(self, scans):
        self.scans = scans

    def __len__(self):
        return len(self.scans)

    def arrays(self, number):
        return self.scans[number], None


def task(channels=1, **train):
    names = tuple(f"channel{number}" for number in range(channels))
    settings = CONFIG.train.model_copy(update={"task": "restoration", **train})
    grid = GRID.model_copy(update={"channels": names, "labels": ()})
    return chosen_task(grid, CONFIG.model_copy(update={"train": settings}))


def weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("micro_batch", [0, 1])
def test_each_step_moves_its_own_network_and_no_other(channels, micro_batch):
    restoration = task(channels, micro_batch=micro_batch)
    state = restoration.start(CPU)
    modules = list(state.networks.modules().values())  # discriminator, restorer
    for step, moves in (
        (restoration.discriminator_step, [True, False]),
        (restoration.generator_step, [False, True]),
    ):
        before = [weights(module) for module in modules]
        scalars = step(state, restoration.example(2, CPU))
        assert all(bool(torch.isfinite(value)) for value in scalars.values())
        moved = [not torch.equal(b, weights(m)) for b, m in zip(before, modules, strict=True)]
        assert moved == moves


def test_an_interrupted_restoration_ends_like_a_whole_one(training, monkeypatch):
    whole = training("whole")
    stop_at(10, monkeypatch, lambda: training("stopped"))
    stopped = training("stopped")
    assert same_weights(whole, stopped)
    rows = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    found = [row for row in rows if "samples/restoration_lesion" in row]
    assert [row["volumes_seen"] for row in found] == [8, 16]
    assert found[0]["samples/corruption_lesion"] > 0
    assert len(list((stopped / "samples").glob("*.png"))) == 2


def test_a_model_restores_a_scan_in_its_own_grid_and_generates_nothing(training):
    model = medgan.load(str(training() / "model"))
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    scan = Volume(np.random.default_rng(0).uniform(0, 100, (18, 16, 15)).astype("f4"), affine)
    (restored,) = model.restore(scan)
    assert restored.data.shape == scan.data.shape
    assert np.array_equal(restored.affine, affine)
    inside = (slice(2, -2),) * 3
    assert np.abs(restored.data - scan.data)[inside].mean() < 20
    with pytest.raises(ModelError) as caught:
        model.generate(1)
    assert caught.value.code == "E_GENERATOR"
    assert "ynthetic" not in (training() / "model" / "card.md").read_text()


def test_a_restorer_sees_what_is_usual_where_scans_are_aligned():
    assert restorer_inputs(GRID) == ("density",)
    aligned = GRID.model_copy(update={"align": "deformable"})
    assert restorer_inputs(aligned) == ("density", "deviation", "mean")


def test_a_restorer_draws_tissue_from_the_mean_scan_on():
    inputs = restorer_inputs(GRID.model_copy(update={"align": "deformable"}))
    restorer = fresh_restorer(GRID, CONFIG.model, inputs)
    torch.nn.init.zeros_(restorer.unet.out.weight)
    seen = torch.rand(1, 4, *GRID.shape)  # the scan, density, deviation and mean
    assert torch.equal(restorer.parts(seen).healthy, seen[:, 3:])


def test_the_inputs_of_a_restorer_are_kept_and_old_models_had_density_alone(training):
    folder = training() / "model"
    model = medgan.load(str(folder))
    assert model.networks.needed_restorer.inputs == ("density",)
    config = json.loads((folder / "config.json").read_text())
    assert config["restorer"] == ["density"]
    (folder / "config.json").write_text(json.dumps(config | {"restorer": True}))
    assert medgan.load(str(folder)).networks.needed_restorer.inputs == ("density",)
    both = ("density", "deviation")
    model.networks.restorer = fresh_restorer(model.preprocessing, model.sizes, both)
    model.save(folder)
    assert medgan.load(str(folder)).networks.needed_restorer.inputs == both


def test_training_scans_come_with_the_template_that_is_bent_to_them():
    rng = np.random.default_rng(0)
    scans = np.stack([ball(rng) for _ in range(3)])[:, None].astype(np.float32) / 60 - 1
    volumes = InMemory(scans)
    template = Template(scans.mean(axis=0), scans.std(axis=0), np.zeros((1, 11), "f4"), 0.9)
    grid = GRID.model_copy(update={"labels": (), "align": "deformable", "template": template})
    settings = CONFIG.train.model_copy(update={"task": "restoration"})
    chosen = chosen_task(grid, CONFIG.model_copy(update={"train": settings}))
    informed = chosen.informed(volumes, CPU)
    rng = np.random.default_rng(0)
    made = [informed.arrays(volumes, number, rng) for number in (0, 2)]
    arrays = {name: np.stack([one[name] for one in made]) for name in made[0]}
    assert arrays["usual"].shape == (2, 2, *grid.shape)
    error = np.abs(arrays["usual"][:, 0] - arrays["volume"][:, 0]).mean()
    assert error < np.abs(scans.mean() - scans).mean()
    state = informed.start(CPU)
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    scalars = informed.generator_step(state, Batch({**batch, "condition": torch.zeros(2, 0)}))
    assert all(bool(torch.isfinite(value)) for value in scalars.values())


def test_contrast_removed_counts_what_a_lesion_changed_alone():
    healthy, corrupted = torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert contrast_removed(healthy, corrupted, corrupted) == 0
    assert contrast_removed(healthy, corrupted, healthy) == 1
    assert contrast_removed(healthy, corrupted, corrupted / 4) == 0.75
    elsewhere = torch.tensor([0.5, -0.5, 0.5, -0.5])  # another pattern of the same strength
    assert contrast_removed(healthy, corrupted, elsewhere) == 1


def test_the_discriminator_takes_part_at_the_end_only(training):
    rows = [json.loads(line) for line in (training() / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "generator/lesion" in row]
    assert [row["volumes_seen"] for row in steps if "critic/loss" in row] == [16]
    assert len(steps) == 8


def test_what_is_no_lesion_stays_as_it_is():
    volume = torch.rand(1, 1, 4, 4, 4) * 2 - 1
    lesion = torch.full_like(volume, -30.0)
    lesion[..., :2] = 30.0
    restored = Parts(-volume, lesion).into(volume)
    assert torch.allclose(restored[..., :2], -volume[..., :2])
    assert torch.equal(restored[..., 2:], volume[..., 2:])


def test_a_restorer_learns_to_remove_lesions():
    """Bright cubes in dark balls, all alike: a minute of training is not needed for these."""
    torch.manual_seed(0)
    restoration = task(learning_rate=2e-3, warmup=8, volumes=800, batch=8)
    state = restoration.start(CPU)
    healthy = torch.full((8, 1, *GRID.shape), -0.5)
    rng = np.random.default_rng(0)

    def batch():
        corrupted = healthy.clone()
        for one in corrupted:
            x, y, z = rng.integers(2, 10, 3)
            one[:, x : x + 4, y : y + 4, z : z + 4] = 0.8
        none, condition = torch.zeros(8, 0, *GRID.shape), torch.zeros(8, 0)
        tensors = {"volume": healthy, "corrupted": corrupted, "usual": none}
        return Batch({**tensors, "condition": condition})

    for _ in range(60):
        loop.step(restoration, state, batch)
    shown = batch()
    corrupted = shown["corrupted"]
    lesion = corrupted > 0
    with torch.no_grad():
        restored = state.networks.needed_restorer(torch.cat([corrupted, 0 * corrupted], dim=1))
    error = (restored - healthy).abs()
    assert error[lesion].mean() < 0.3  # 1.3 in the scans with lesions
    assert error[~lesion].mean() < 0.1


def test_a_restoring_model_is_calibrated_and_scores_by_what_it_changes(training):
    model = medgan.load(str(training() / "model"))
    networks = model.scoring_networks()
    assert available(networks) == ["density", "restoration"]
    rng = np.random.default_rng(0)
    scans = [Volume(ball(rng).astype("f4"), AFFINE) for _ in range(7)]
    model.calibrate(scans[:6])
    assert model.calibration.scoring_config.scorers == ("restoration",)
    found = model.score(scans[6])
    assert np.isfinite(found.score)
    (restored,) = model.restore(scans[6])
    assert np.array_equal(found.recon.data, restored.data)
    with pytest.raises(ConfigError) as caught:
        model.calibrate(scans[:6], ScoringConfig(("residual",)))
    assert caught.value.code == "E_SCORER"


def test_a_restoring_model_is_stored_with_its_calibration(training, tmp_path):
    model = medgan.load(str(training() / "model"))
    rng = np.random.default_rng(0)
    scans = [Volume(ball(rng).astype("f4"), AFFINE) for _ in range(7)]
    model.calibrate(scans[:6])
    expected = model.score(scans[6])
    model.share(tmp_path / "shared")
    found = medgan.load(str(tmp_path / "shared")).score(scans[6])
    assert found.score == pytest.approx(expected.score, abs=0.05)


def test_a_localiser_may_be_trained_beside_a_restorer():
    config = build(TINY, ["train.task=restoration"])
    assert config.localiser.volumes > 0
