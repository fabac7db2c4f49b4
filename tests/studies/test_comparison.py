import json

import pytest
import torch
import yaml
from safetensors.torch import load, save

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ConfigError, Exit, ModelError
from medgan.data.prepared import stored
from medgan.evaluation.probes.segmentation import train_segmenter
from medgan.studies.generated_sets import BASELINES, read_generated_set
from tests.kit.data_sets import TINY, remove_contrast, write_folder

pytestmark = pytest.mark.long

SIZES = {
    "baseline": {"name": "vae"},
}
TRAIN = {**TINY["train"], "minutes": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model and a baseline, trained for a moment on the same scans."""
    folder = tmp_path_factory.mktemp("comparison")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    home.setattr("medgan.studies.generated_sets.SAMPLE_COUNT", 20)
    sizes = {"COUNT": 20, "SEEDS": 2, "STEPS": 3, "PAIRS": 5, "SEGMENTER_STEPS": 2}
    for name, size in sizes.items():
        home.setattr(f"medgan.studies.comparison.{name}", size)
    source = write_folder(folder / "scans", 24)
    config = {**TINY, **SIZES, "train": TRAIN}
    config["data"] = {**TINY["data"], "fractions": [0.5, 0.1, 0.2, 0.2]}
    steps = {"train": ["index", "train"], "baseline": ["index", "baseline"],
             "compare": ["index", "compare"]}  # fmt: skip
    for name, names in steps.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"steps": names, "config": config}))
    common = [f"data.source={source}"]
    run_pipeline(str(folder / "train.yaml"), [*common, f"out={folder / 'tiny'}"])
    run_pipeline(str(folder / "baseline.yaml"), [*common, f"out={folder / 'vae'}"])
    yield folder, common
    home.undo()


@pytest.fixture
def same_site(made, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made[0] / "home"))


def compare(made, names, *more):
    folder, common = made
    models = json.dumps([str(folder / name) for name in names])
    settings = [*common, f"out={folder / 'out'}", f"compare.models={models}", *more]
    return run_pipeline(str(folder / "compare.yaml"), settings, replace=True)


def test_a_baseline_leaves_samples_on_the_grid_and_its_record(made):
    folder, _ = made
    images = load((folder / "vae" / "samples.safetensors").read_bytes())["images"]
    assert images.shape == (20, 1, 16, 16, 16)
    assert images.dtype == torch.float16
    record = json.loads((folder / "vae" / "baseline.json").read_text())
    assert record["name"] == "vae"
    assert record["volumes_seen"] == 16
    assert record["training_scans"] == 12
    assert record["preprocessing"]["shape"] == [16, 16, 16]
    assert {"seconds", "ms_per_step", "parameters", "data_digest"} <= set(record)


@pytest.mark.slow
def test_scans_that_cannot_be_prepared_are_left_out_of_a_baseline_and_a_comparison(
    made, same_site, one_seed, tmp_path
):
    source = write_folder(tmp_path / "scans", 24)
    remove_contrast(*(source / f"person-{number}.nii.gz" for number in ("00", "23")))
    subjects = [f"person-{number:02d}" for number in range(24)]
    splits = {"train": subjects[:12], "validation": subjects[12:14],
              "calibration": subjects[14:18], "test": subjects[18:]}  # fmt: skip
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    settings = [f"data.source={source}", f"data.splits={tmp_path / 'splits.json'}"]
    out = tmp_path / "vae"
    baseline = run_pipeline(str(made[0] / "baseline.yaml"), [*settings, f"out={out}"])
    assert baseline.results["baseline"].values["training_scans"] == 11
    assert [refusal.code for refusal in baseline.refusals] == ["E_CONTRAST"]
    done = compare(made, [out], *settings)
    values = done.results["compare"].values
    assert values["protocol"]["training_scans"] == 11
    assert values["protocol"]["test_scans"] == 5
    assert values["rows"][1]["same_scans_and_splits"]
    assert [refusal.code for refusal in done.refusals] == ["E_CONTRAST"] * 2
    assert done.exit_status == Exit.REFUSED
    assert (made[0] / "out" / "refused.csv").read_text().count("E_CONTRAST") == 2


def test_a_comparison_holds_real_scans_models_and_baselines_side_by_side(made, same_site):
    done = compare(made, ["tiny/model", "vae"], "compare.segmentation=true")
    result = json.loads((made[0] / "out" / "comparison.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["real against real", "tiny", "vae"]
    real, model, baseline = result["rows"]
    for row in result["rows"]:
        distance = row["kernel_distance"]
        assert distance["low"] <= distance["value"] <= distance["high"]
        assert 0 <= row["ms_ssim"] <= 1
        assert len(row["auroc"]["seeds"]) == len(row["auroc_half"]["seeds"]) == 2
        assert row["auroc"]["low"] <= row["auroc"]["mean"] <= row["auroc"]["high"]
    assert model["same_scans_and_splits"]
    assert baseline["same_scans_and_splits"]
    assert real["dice"]["labels"].keys() == model["consistency"]["labels"].keys() == {"1"}
    assert "dice" not in baseline
    assert result["protocol"]["test_scans"] == 5
    lines = done.results["compare"].values["table"].splitlines()
    assert len(lines) == 5
    assert lines[4].startswith("| vae |")
    assert lines[4].endswith("|  |  |")
    assert lines[2] in done.closing_lines()


@pytest.fixture
def one_seed(monkeypatch):
    monkeypatch.setattr("medgan.studies.comparison.SEEDS", 1)


def test_synthetic_scans_can_be_labelled_by_a_segmenter_of_real_ones(
    made, same_site, one_seed, monkeypatch
):
    learned = []

    def train(images, classes, *rest):
        learned.append((images, classes))
        return train_segmenter(images, classes, *rest)

    monkeypatch.setattr("medgan.studies.comparison.train_segmenter", train)
    monkeypatch.setattr(
        "medgan.studies.comparison.segment", lambda segmenter, images: (images[:, 0] > 0).long()
    )
    compare(made, ["tiny/model"], "compare.segmentation=true", "compare.relabel=true")
    (_, of_real), (images, of_synthetic) = learned
    assert torch.equal(of_synthetic, (images[:, 0] > 0).long())
    assert len(of_real) == 12
    assert json.loads((made[0] / "out" / "comparison.json").read_text())["protocol"]["relabelled"]


@pytest.mark.slow
def test_a_generator_trained_on_other_splits_is_marked(made, same_site, one_seed):
    done = compare(made, ["vae"], "data.seed=5")
    assert "| vae * |" in done.results["compare"].values["table"]


def test_another_grid_is_refused(made, same_site, tmp_path, monkeypatch):
    for name in ("real_row", "row"):  # of the first one, which is not what is asked here
        monkeypatch.setattr(f"medgan.studies.comparison._Evaluation.{name}", lambda *args: {})
    folder, _ = made
    record = json.loads((folder / "vae" / "baseline.json").read_text())
    record["preprocessing"]["spacing"] = [1, 1, 1]
    (tmp_path / "baseline.json").write_text(json.dumps(record))
    (tmp_path / "samples.safetensors").write_bytes(
        (folder / "vae" / "samples.safetensors").read_bytes()
    )
    with pytest.raises(ConfigError, match="E_GRID"):
        compare(made, ["vae", str(tmp_path)])


def test_nothing_to_compare_and_damaged_samples_are_errors(made, same_site, tmp_path):
    with pytest.raises(ConfigError, match="E_USAGE"):
        compare(made, [])
    (tmp_path / "baseline.json").write_text("{}")
    (tmp_path / "samples.safetensors").write_bytes(save({"images": torch.zeros(1)}))
    with pytest.raises(ModelError, match="E_MODEL"):
        compare(made, [str(tmp_path)])


def test_what_a_model_brings_is_unrounded_but_for_half_precision(made):
    uri = str(made[0] / "tiny" / "model")
    model = medgan.load(uri)
    generated = read_generated_set(uri, medgan.load, 3)
    written = model.generate(3)
    for image, label_map, scan in zip(generated.images, generated.label_maps, written, strict=True):
        assert (image[0] - (2 * torch.from_numpy(scan.image.data / 1000) - 1)).abs().max() < 2e-3
        assert torch.equal(label_map, torch.from_numpy(scan.label.data.astype("int64")))
    assert len(generated.images.unique()) > 1001


def test_real_and_synthetic_volumes_end_up_on_the_same_values():
    volume = torch.tensor([-1.2, -0.33333, 0.1, 1.5])
    assert torch.equal(stored(volume), stored(stored(volume)))
    assert stored(volume).min() == -1
    assert stored(volume).max() == 1


def test_every_baseline_that_settings_name_is_there():
    from typing import get_args

    from medgan.core.config import BaselineConfig

    names = get_args(BaselineConfig.model_fields["name"].annotation)
    assert set(names) == set(BASELINES)
