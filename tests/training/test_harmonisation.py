"""A harmonisation from end to end: two sites, trained, stored, used on scans of any grid."""

import json

import numpy as np
import pytest
import yaml

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.config import Preprocessing, build
from medgan.core.errors import ConfigError, DataError
from medgan.core.volume import Volume
from medgan.data.manifest import Manifest
from medgan.training.memory import predict_memory
from tests.kit.command_line import inside
from tests.kit.interruption import same_weights, stop_at
from tests.kit.volumes import AFFINE, ball

SETTINGS = {
    "data": {
        "spacing": [2, 2, 2], "shape": [16, 16, 16], "patches": True, "labels": [],
        "fractions": [0.5, 0.4, 0.05, 0.05],
    },
    "model": {"latent": 8, "widths": [16, 16], "stem_channels": 16, "blocks": 1},
    "train": {
        "task": "harmonisation", "volumes": 16, "batch": 2, "warmup": 4, "sample_every": 8,
        "precision": "fp32",
    },
    "tracking": {"uri": "none"},
}  # fmt: skip


def write_site(folder, seed, change, count=8):
    """Balls in stripped air, as one scanner shows them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        scan = np.pad(ball(rng), 2)
        scan = np.where(scan > 0, change(scan.clip(1)), 0).astype(np.float32)
        Volume(scan, AFFINE).save(folder / f"{folder.name}{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Scans of one site, and of another whose grey values are crushed into the dark."""
    root = tmp_path_factory.mktemp("sites")
    wanted = write_site(root / "wanted", 0, lambda scan: scan)
    given = write_site(root / "given", 1, lambda scan: 100 * (scan / 100) ** 3)
    return given, wanted


@pytest.fixture(scope="module")
def training(tmp_path_factory, sites):
    """A call that trains on these sites into a folder."""
    folder = tmp_path_factory.mktemp("trainings")
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": SETTINGS}))

    def run(name, *more):
        settings = [
            f"out={folder / name}", f"data.source={sites[0]}",
            f"translate.target_data={sites[1]}", *more,
        ]  # fmt: skip
        run_pipeline(str(pipeline), settings)
        return folder / name

    return run


@pytest.fixture(scope="module")
def trained(training):
    """A short training."""
    return training("trained")


@pytest.mark.slow
def test_scans_come_closer_to_the_wanted_site(training):
    out = training(
        "closer", "train.volumes=160", "train.batch=4", "train.sample_every=40", "train.gamma=2",
        "train.learning_rate=0.001", "train.ema_half_life=10",
    )  # fmt: skip
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = [row for row in rows if "samples/kernel_distance" in row]
    best = min(row["samples/kernel_distance"] for row in found)
    assert best < 0.8 * found[0]["samples/kernel_distance_before"]


def test_a_training_that_was_stopped_goes_on_with_the_same_numbers(training, trained, monkeypatch):
    stop_at(8, monkeypatch, lambda: training("parts"))
    assert same_weights(trained, training("parts"))


def test_a_scan_keeps_its_grid_its_air_and_what_is_brighter_than_the_network_sees(trained, sites):
    model = medgan.load(trained / "model")
    first = Volume.load(sites[0] / "given0.nii.gz")
    data = np.repeat(first.data, 2, axis=2)
    data[10, 10, 20] = 1000.0
    affine = np.array([[0, -2, 0, 7], [2, 0, 0, -5], [0, 0, 1, 3], [0, 0, 0, 1.0]])
    found = model.translate(Volume(data, affine))
    image = found.images["image"]
    assert np.array_equal(image.affine, affine)
    assert image.data.shape == data.shape
    assert (image.data[data == 0] == 0).all()
    assert image.data[10, 10, 20] > 900
    inside_it = data > 0
    assert not np.array_equal(image.data[inside_it], data[inside_it])
    assert found.answers == 1


def test_the_verb_marks_what_it_writes_and_both_sites_are_recorded(trained, sites, tmp_path):
    out = trained
    manifest = Manifest.load(out / "manifest.json")
    wanted = [case.wanted for case in manifest.cases]
    assert wanted == [False] * 8 + [True] * 8
    model = medgan.load(out / "model")
    assert model.facts["training_digest"] == manifest.training_digest
    weights = out / "model/model.safetensors"
    assert b"heads" not in weights.read_bytes()[:20000]
    done = inside("translate", out / "model", sites[0], "-o", tmp_path / "t", "--json")
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "t/images").iterdir())
    assert len(written) == 8
    assert Volume.load(written[0]).is_synthetic


def test_a_subject_in_both_sites_is_refused(training, sites):
    with pytest.raises(ConfigError, match=r"E_LEAK translate.target_data: 8 of its scans"):
        training("refused", f"translate.target_data={sites[0]}")


def test_a_site_with_too_few_scans_is_refused(training, tmp_path):
    few = write_site(tmp_path / "few", 5, lambda scan: scan, count=2)
    with pytest.raises(DataError, match=r"E_SPLIT.*4 of data.source and 1 of translate"):
        training("refused", f"translate.target_data={few}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["translate.source=[a]", "translate.target=[b]"], "not for train.task harmonisation"),
        (["train.metric=translation"], "not for train.task harmonisation"),
        (["data.patches=false"], "needs data.patches true"),
        (
            ["train.task=synthesis", "data.patches=false", "translate.target_data=x"],
            "needs train.task harmonisation",
        ),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(SETTINGS, settings)


def test_without_a_second_site_there_is_no_training(training):
    with pytest.raises(ConfigError, match=r"E_NO_DATA translate.target_data"):
        training("refused", "translate.target_data=''")


def test_memory_is_predicted():
    grid = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), patches=True)
    found = predict_memory(build(SETTINGS, []), grid)
    assert found.peak > found.resident > 0
