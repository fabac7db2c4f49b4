"""Two registered image channels of one subject, from the table to the score."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.config import Preprocessing, build
from medgan.core.errors import ConfigError, DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.plan import plan
from medgan.data.pseudonyms import Pseudonyms
from medgan.training.corruption import lesioned
from medgan.training.memory import predict_memory
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.command_line import inside
from tests.kit.data_sets import TINY
from tests.kit.interruption import same_weights, stop_at
from tests.kit.models import CONFIG, make_model
from tests.kit.volumes import AFFINE, ball

CHANNELS = "data.channels=[T1, T2]"
GRID = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), channels=("T1", "T2"), labels=(1,))
CPU = torch.device("cpu")


def write_table(folder: Path, count: int) -> Path:
    """Subjects with a bright ball in T1 and a dark one in T2, and its label map."""
    rng = np.random.default_rng(0)
    lines = ["subject,T1,T2,label"]
    for number in range(count):
        data = ball(rng)
        files = {"T1": data, "T2": 300 - 2 * data, "label": (data > 60).astype(np.uint8)}
        names = [f"s{number:02d}_{name}.nii.gz" for name in files]
        for name, values in zip(names, files.values(), strict=True):
            kind = np.uint8 if values.dtype == np.uint8 else np.float32
            Volume(values.astype(kind), AFFINE).save(folder / name)
        lines.append(",".join([f"s{number:02d}", *names]))
    (folder / "scans.csv").write_text("\n".join(lines))
    return folder / "scans.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("scans"), 20)


def trained(table: Path, out: Path, *settings: str, steps=("index", "train")) -> Path:
    pipeline = out.parent / "tiny.yaml"
    config = TINY if "scorers" in steps else TINY | {"localiser": {}}
    pipeline.write_text(yaml.safe_dump({"steps": list(steps), "config": config}))
    run_pipeline(str(pipeline), [f"out={out}", f"data.source={table}", CHANNELS, *settings])
    return out


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """A training with a localiser and a calibration."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return trained(table, out, steps=("index", "train", "scorers", "calibrate"))


def test_a_scan_of_two_channels_is_generated_as_two_images_and_a_label_map(whole, tmp_path):
    model = medgan.load(str(whole / "model"))
    assert model.preprocessing.channels == ("T1", "T2")
    assert model.networks.localiser is not None
    done = inside("generate", whole / "model", "-n", "2", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    images = sorted(p.name for p in (tmp_path / "imagesTr").iterdir())
    assert images == [f"synthetic-s0-0000{n}_000{c}.nii.gz" for n in (0, 1) for c in (0, 1)]
    labels = sorted(p.name for p in (tmp_path / "labelsTr").iterdir())
    assert labels == [f"synthetic-s0-0000{n}.nii.gz" for n in (0, 1)]
    first, second = (Volume.load(tmp_path / "imagesTr" / name) for name in images[:2])
    assert np.array_equal(first.affine, second.affine)
    assert first.data.shape == second.data.shape == (16, 16, 16)
    expected = model.generate(1)[0]
    for name, image in zip(("T1", "T2"), (first, second), strict=True):
        assert np.array_equal(image.data, expected.images[name].data)
    manifest, _ = index(tmp_path, Pseudonyms(b"salt"))
    assert not manifest.refusals
    assert [list(case.images) for case in manifest.cases] == [["T1", "T2"]] * 2
    assert all(case.label for case in manifest.cases)


def test_a_scan_of_two_channels_has_one_map_and_two_reconstructions(whole, table, tmp_path):
    done = inside("score", whole / "model", table, "-o", tmp_path)  # channels are the model's
    assert done.returncode == 0, done.stderr
    (scores,) = tmp_path.rglob("scores.csv")
    rows = list(csv.DictReader(scores.read_text().splitlines()))
    assert len(rows) == 20
    case = rows[0]["case"]
    assert len(list(scores.parent.glob(f"maps/{case}*"))) == 1
    recons = sorted(p.name for p in scores.parent.glob(f"recons/{case}*"))
    assert recons == [f"{case}.nii.gz", f"{case}_T2.nii.gz"]


def test_channels_are_told_apart_by_name_and_not_by_order(whole, table):
    model = medgan.load(str(whole / "model"))
    paths = {name: table.parent / f"s00_{name}.nii.gz" for name in ("T1", "T2")}
    result = model.score(paths)
    turned = model.score(dict(reversed(paths.items())))
    assert result.score == turned.score
    assert np.array_equal(result.score_map.data, turned.score_map.data)
    recons = model.reconstruct_channels(paths)
    assert list(recons) == list(result.recons) == ["T1", "T2"]
    assert recons["T1"].data.shape == recons["T2"].data.shape == (16, 16, 16)
    # An anomaly that one channel alone shows, whichever it is, changes the score.
    for name in paths:
        scan = Volume.load(paths[name])
        data = scan.data.copy()
        data[6:10, 6:10, 6:10] = data.max() if name == "T2" else data.min()
        assert model.score({**paths, name: scan.like(data)}).score != result.score
    with pytest.raises(DataError, match=r"E_CHANNEL.*T1, T2"):
        model.score(paths["T1"])
    with pytest.raises(DataError, match=r"E_CHANNEL.*none"):
        model.score({})
    with pytest.raises(DataError, match="E_CHANNEL"):
        model.score({"T1": paths["T1"], "FLAIR": paths["T2"]})
    shift = np.zeros((4, 4))
    shift[0, 3] = 1.0  # mm
    scan = Volume.load(paths["T2"])
    moved = Volume(scan.data, scan.affine + shift)
    with pytest.raises(DataError, match="E_CHANNEL_GRID"):
        model.score({**paths, "T2": moved})


@pytest.mark.parametrize("task", ["synthesis", "restoration"])
def test_an_interrupted_training_of_two_channels_ends_like_a_whole_one(
    task, table, tmp_path, monkeypatch
):
    settings = [f"train.task={task}"]
    settings += ["train.metric=restoration"] if task == "restoration" else []
    (tmp_path / "a").mkdir()
    expected = trained(table, tmp_path / "a" / "out", *settings)

    stop_at(10, monkeypatch, lambda: trained(table, tmp_path / "out", *settings))
    stopped = trained(table, tmp_path / "out", *settings)
    assert same_weights(expected, stopped)
    if task == "restoration":
        model = medgan.load(str(stopped / "model"))
        scan = {name: table.parent / f"s00_{name}.nii.gz" for name in ("T1", "T2")}
        restored = model.restore(scan)
        for volume, path in zip(restored, scan.values(), strict=True):
            original = Volume.load(path)
            spread = float(np.ptp(original.data))
            assert np.abs(volume.data - original.data).mean() < spread / 10


@pytest.mark.long
@pytest.mark.slow
def test_a_dry_run_counts_both_channels(table, tmp_path):
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))
    done = inside(
        "train", pipeline, "--data", table, "-o", tmp_path / "out", "--dry-run", "--json",
        "--set", CHANNELS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"T2"' in done.stdout
    one = GRID.model_copy(update={"channels": ("T1",)})
    assert predict_memory(CONFIG, GRID).peak > predict_memory(CONFIG, one).peak


def test_gradients_reach_every_channel_of_every_network():
    task = Synthesis.of(GRID, CONFIG.model, CONFIG.train)
    state, batch = task.start(CPU), task.example(2, CPU)
    assert batch.volume.shape[1] == 2
    batch = batch.having(volume=batch.volume.requires_grad_())
    assert state.pair_discriminator is not None
    for discriminator, shown in (
        (state.networks.critic, batch.volume),
        (state.pair_discriminator, torch.cat([batch.volume, batch.labels], dim=1)),
        (state.networks.encoder, batch.volume),
    ):
        (slope,) = torch.autograd.grad(discriminator(shown).sum(), batch.volume)
        assert (slope.abs().sum(dim=(0, 2, 3, 4)) > 0).all()


def test_fresh_weights_begin_black_in_every_image_channel_and_in_no_label():
    train = CONFIG.train.model_copy(update={"init_background": True})
    networks = Synthesis.of(GRID, CONFIG.model, train).start(CPU).networks
    bias = networks.generator.out.bias
    assert bias is not None
    assert bias.shape == (3 * 8,)
    assert [n for n, value in enumerate(bias) if value < -1] == [0, 8]  # means of the two images


def test_lesions_lie_at_the_same_positions_in_every_channel():
    drawn = np.random.default_rng(1)
    image = (ball(drawn, (24, 24, 24)) / 60 - 1).clip(-1, 1).astype(np.float32)
    volume = np.stack([image, image * 0.9])
    for seed in range(8):
        made, truth = lesioned(volume, volume[:, ::-1], ["brighter"], np.random.default_rng(seed))
        changed = np.abs(made - volume) > 0.05
        assert truth.shape == (1, 24, 24, 24)
        if changed.any():
            assert (changed[0] & changed[1]).sum() > 0.5 * (changed[0] | changed[1]).sum()


def test_each_channel_has_the_intensities_that_are_set_for_it(table):
    manifest, _ = index(table, Pseudonyms(b"salt"), channels=["T1", "T2"])
    settings = build(TINY, [CHANNELS, "data.intensity={T1: ct, T2: mri}"]).data
    grid = plan(settings, manifest.cases)
    model = make_model(grid)
    scan = {name: table.parent / f"s00_{name}.nii.gz" for name in ("T1", "T2")}
    prepared = model.prepare(scan)
    assert prepared.scale[0].intensities == grid.window[0]
    assert grid.windows_of("T1") == grid.window
    assert grid.windows_of("T2") == ()  # no window is offered on its page
    assert prepared.scale[1].intensities != grid.window[0]
    generated = model.generate(1)[0].images
    low, high = grid.window[0]
    assert low <= generated["T1"].data.min() <= generated["T1"].data.max() <= high
    assert generated["T2"].data.min() >= 0
    several = replace(
        model, preprocessing=grid.model_copy(update={"window": ((-9.0, 0.0), (0.0, 9.0))})
    )
    assert several.preprocessing.views == (((-9.0, 0.0), (0.0, 9.0)), ())
    with pytest.raises(ConfigError, match=r"(?s)E_VALUE.*T1, T2"):
        plan(build(TINY, [CHANNELS, "data.intensity={T1: ct}"]).data, manifest.cases)


def test_what_works_with_one_channel_alone_refuses_two(whole, table, tmp_path):
    for arguments in (
        ("evaluate", table, whole / "model", "--set", CHANNELS),
        ("augment", whole / "model", table),
        ("score", whole / "model", table.parent, "--format", "mood"),
    ):
        done = inside(*arguments, "-o", tmp_path / arguments[0])
        assert done.returncode == 2
        assert "E_CHANNEL" in done.stderr
    model = medgan.load(str(whole / "model"))
    with pytest.raises(ConfigError, match="E_CHANNEL"):
        model.edit({name: table.parent / f"s00_{name}.nii.gz" for name in ("T1", "T2")}, {})
