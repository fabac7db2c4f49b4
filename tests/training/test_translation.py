"""A translation from end to end: trained, stored, used on scans of any size."""

import json
from functools import partial

import nibabel
import numpy as np
import pydicom
import pytest
import torch
import yaml

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.config import WINDOWS, Preprocessing, build
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError, ModelError
from medgan.core.volume import Volume
from medgan.model.fresh_networks import translating_networks
from medgan.training.memory import predict_memory
from medgan.workflows.translate import shown_range
from tests.kit.command_line import inside
from tests.kit.interruption import same_weights, stop_at
from tests.kit.models import make_model
from tests.kit.volumes import AFFINE, ball

SETTINGS = {
    "data": {
        "spacing": [2, 2, 2], "shape": [16, 16, 16], "patches": True, "labels": [],
        "channels": ["T1w", "ct"], "intensity": {"T1w": "mri", "ct": "ct"},
        "window": [-1000, 1000], "unseen": {"T1w": 0},
        "fractions": [0.5, 0.3, 0.1, 0.1],
    },
    "translate": {"source": ["T1w"], "target": ["ct"]},
    "model": {"latent": 8, "widths": [16, 16], "stem_channels": 16, "blocks": 1},
    "train": {
        "task": "translation", "metric": "translation", "volumes": 16, "batch": 2, "warmup": 4,
        "sample_every": 8,
    },
    "tracking": {"uri": "none"},
}  # fmt: skip


def write_pairs(folder, count=10):
    """MR with air of 0 beyond its field of view, and CT: bright in MR is dense in CT."""
    rng = np.random.default_rng(0)
    (folder / "scans").mkdir(parents=True)
    rows = ["T1w,ct,subject"]
    for number in range(count):
        mr = ball(rng).astype(np.float32) + 1
        ct = (10 * mr - 500).astype(np.int16)
        mr[:, :, :4] = 0
        Volume(mr, AFFINE).save(folder / f"scans/{number}_mr.nii.gz")
        Volume(ct, AFFINE).save(folder / f"scans/{number}_ct.nii.gz")
        rows.append(f"scans/{number}_mr.nii.gz,scans/{number}_ct.nii.gz,s{number}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def train(folder, pairs, name="out", *more):
    """Trains on these pairs into a folder."""
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": SETTINGS}))
    run_pipeline(str(pipeline), [f"out={folder / name}", f"data.source={pairs}", *more])
    return folder / name


@pytest.fixture
def training(tmp_path, pairs):
    """A call that trains on these pairs into a folder."""
    return partial(train, tmp_path, pairs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pairs):
    """The folder of a training that has hardly begun to learn."""
    return train(tmp_path_factory.mktemp("trained"), pairs, "out", "translate.adversarial=0.5")


def test_a_translation_learns_what_it_is_shown(training, pairs):
    out = training(
        "out", "train.volumes=320", "train.batch=4", "translate.adversarial=0",
        "train.sample_every=320", "train.learning_rate=0.003",
    )  # fmt: skip
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    errors = [row["samples/translation"] for row in rows if "samples/translation" in row]
    assert errors[-1] < 0.12
    model = medgan.load(out / "model")
    mr, ct = (Volume.load(pairs.parent / f"scans/0_{kind}.nii.gz") for kind in ("mr", "ct"))
    found = model.translate(mr, answers=2)
    image, inside = found.images["ct"], mr.data > 5
    assert image.data.shape == mr.data.shape
    assert np.array_equal(image.affine, mr.affine)
    guess = np.abs(ct.data[inside] - ct.data[inside].mean()).mean()
    assert np.abs(image.data[inside] - ct.data[inside]).mean() < 0.7 * guess
    assert (image.data[:, :, :3] == -1000).all()
    assert not found.spread["ct"].data[:, :, :3].any()


def test_the_discriminator_takes_part_late_and_answers_differ(trained, pairs):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    judged = [row["volumes_seen"] for row in rows if "critic/loss" in row]
    assert judged == [10, 12, 14, 16]
    model = medgan.load(trained / "model")
    scan = pairs.parent / "scans/1_mr.nii.gz"
    first, again, other = (model.translate(scan, 3, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.answer["ct"].data, again.answer["ct"].data)
    assert not np.array_equal(first.answer["ct"].data, other.answer["ct"].data)
    assert np.array_equal(first.images["ct"].data, other.images["ct"].data)
    assert first.spread["ct"].data.max() > 0


def test_a_scan_of_any_size_and_orientation_is_translated_in_its_own_grid(trained):
    model = medgan.load(trained / "model")
    rng = np.random.default_rng(1)
    affine = np.array([[0, -3, 0, 7], [2, 0, 0, -5], [0, 0, 1.5, 3], [0, 0, 0, 1.0]])
    scan = Volume(rng.uniform(1, 99, (11, 7, 61)).astype(np.float32), affine)
    found = model.translate(scan, answers=2).images["ct"]
    assert found.data.shape == scan.data.shape
    assert np.array_equal(found.affine, affine)
    assert np.isfinite(found.data).all()


def test_a_training_that_was_stopped_goes_on_with_the_same_numbers(training, trained, monkeypatch):
    stop_at(8, monkeypatch, lambda: training("parts"))
    assert same_weights(trained, training("parts"))


def test_without_noise_there_is_one_answer_and_no_spread(training, pairs):
    out = training("out", "translate.noise=false", "translate.adversarial=0")
    found = medgan.load(out / "model").translate(pairs.parent / "scans/1_mr.nii.gz", 5)
    assert found.answers == 1
    assert not found.spread["ct"].data.any()


def test_the_verb_writes_marked_images_under_pseudonyms_and_refuses_bad_scans(
    trained, pairs, tmp_path
):
    out, new = trained / "model", tmp_path / "new"
    new.mkdir()
    for number in range(2):
        (new / f"Jane_Doe_{number}.nii.gz").write_bytes(
            (pairs.parent / f"scans/{number}_mr.nii.gz").read_bytes()
        )
    (new / "broken.nii.gz").write_bytes(b"nothing")
    settings = ("--answers", "2", "--set", "translate.dicom=true")
    done = inside("translate", out, new, "-o", tmp_path / "t", *settings, "--json")
    assert done.returncode == 3, done.stderr
    values = json.loads(done.stdout)
    assert values["translate"]["scans"] == 2
    images = sorted((tmp_path / "t/images").iterdir())
    assert len(images) == len(list((tmp_path / "t/pictures").iterdir())) == 2
    assert "Jane" not in str(images)
    header = nibabel.load(images[0]).header
    assert b"SYNTHETIC (medgan) ct of T1w" in bytes(header["descrip"].tobytes())
    series = sorted((tmp_path / "t/dicom").iterdir())
    assert [folder.name for folder in series] == [file.name[:-7] for file in images]
    one = pydicom.dcmread(series[0] / "slice-0001.dcm")
    assert one.Modality == "CT"
    assert not one.PatientName
    assert one.SeriesDescription.startswith("SYNTHETIC (medgan) ct of T1w")
    card = (out / "card.md").read_text()
    assert "Task: translation, T1w to ct" in card
    assert "Calibration" not in card
    record = json.loads((tmp_path / "t/translations.json").read_text())
    assert record["model_sha256"] == medgan.load(out).digest
    assert record["task"] == "translation"


def test_a_model_that_does_not_translate_says_so():
    with pytest.raises(ModelError, match="E_TRANSLATOR"):
        make_model().translate(Volume(ball(np.random.default_rng(0)), AFFINE))


def test_a_model_that_translates_scores_and_generates_nothing(trained):
    model = medgan.load(trained / "model")  # with its discriminator, which sees pairs
    scans = [Volume(ball(np.random.default_rng(0)), AFFINE)]
    with pytest.raises(ConfigError, match="E_SCORER the model: has no scorers"):
        model.calibrate(scans)
    with pytest.raises(ModelError, match="E_GENERATOR"):
        model.generate(1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.patches=false", "needs data.patches true"),
        ("translate.target=[]", "needs channels in source and other channels in target"),
        ("translate.target=[T1w]", "needs channels in source and other channels in target"),
        ("train.augment=adaptive", "adaptive needs train.task"),
        ("train.task=synthesis", "not for train.task synthesis"),
        ("data.align=rigid", "data.patches needs data.align none"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        build(SETTINGS, [setting, "data.unseen={}"])


def test_channels_that_no_scan_has_are_refused_before_training(training):
    with pytest.raises(ConfigError, match="E_CHANNEL flair"):
        training("out", "translate.source=[flair]")


def test_memory_is_predicted_without_a_discriminator_too(pairs):
    grid = Preprocessing(
        spacing=(2, 2, 2), shape=(16, 16, 16), channels=("T1w", "ct"), patches=True
    )
    config = build(SETTINGS, ["translate.adversarial=0"])
    found = predict_memory(config, grid)
    assert found.peak > found.resident > 0
    assert torch.is_grad_enabled()


def test_several_windows_of_ct_give_soft_tissue_more_of_the_scale():
    grid = Preprocessing(
        spacing=(2, 2, 2), shape=(16, 16, 16), channels=("T1w", "ct"), patches=True,
        intensity={"T1w": "mri", "ct": "ct"}, window=((-1024.0, 1600.0), (-200.0, 300.0)),
    )  # fmt: skip
    conversion = Conversion("translation", ("T1w",), ("ct",), True)
    networks = translating_networks(grid, build(SETTINGS).model, conversion)
    drawn = networks.needed_translator(torch.zeros(1, 1, 16, 16, 16))
    assert drawn.shape == (1, 1, 16, 16, 16)
    assert networks.critic(torch.zeros(1, 2, 16, 16, 16)).shape == (1,)


def test_pictures_show_lung_where_a_model_has_learned_lung():
    data = np.zeros((2, 2, 2), np.float32)
    for window, ends in (("lung", (-1350, 150)), ("bone", (-160, 240))):
        grid = Preprocessing(
            spacing=(1, 1, 1), shape=(16, 16, 16), intensity="ct", window=(WINDOWS[window],)
        )
        shown = shown_range(grid, grid.channels[0], data)
        assert (shown.low, shown.high) == ends
