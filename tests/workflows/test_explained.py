"""Synthetic scans with their nearest training scans and what each condition changes."""

import json
import shutil

import numpy as np
import pytest

from medgan.app.pipeline import run_pipeline
from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms
from medgan.model.model import Model
from tests.kit.data_sets import write_folder
from tests.kit.models import GRID, make_conditioned, make_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a training leaves: a model, and the manifest of its scans beside it."""
    out = tmp_path_factory.mktemp("explained")
    manifest, _ = index(write_folder(out / "scans", 8), Pseudonyms(b"key"))
    manifest.with_all_in("train").save(out / "manifest.json")
    make_model(GRID).save(out / "model")
    return out


def generate(model, out, *settings):
    given = [f"out={out}", f"model_uri={model}", "tracking.uri=none", "generate.explain=true"]
    run_pipeline("generate", [*given, *settings])
    return (out / "generated.html").read_text(), json.loads((out / "explained.json").read_text())


@pytest.mark.slow
def test_the_nearest_training_scans_are_named_by_pseudonyms_alone(trained, tmp_path):
    page, record = generate(trained / "model", tmp_path / "a", "generate.count=2")
    known = {case.case for case in Manifest.load(trained / "manifest.json").split("train")}
    nearest = [near["case"] for scan in record["scans"] for near in scan["nearest"]]
    assert len(nearest) == 6
    assert set(nearest) <= known
    assert all(case in page for case in nearest)
    assert record["compared_with"]["training_scans"] == len(known)
    assert not any(text in page + json.dumps(record) for text in ("scans/", "person", ".nii.gz)"))


def test_a_model_without_its_scans_says_so_unless_their_manifest_is_named(trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "moved" / "model")
    page, record = generate(tmp_path / "moved" / "model", tmp_path / "a", "generate.count=1")
    assert "not at hand" in page
    assert record["compared_with"] == {"training_scans": 0}
    named = f"data.source={trained / 'manifest.json'}"
    page, record = generate(
        tmp_path / "moved" / "model", tmp_path / "b", "generate.count=1", named
    )  # fmt: skip
    assert "not at hand" not in page
    assert record["scans"][0]["nearest"]
    with pytest.raises(ConfigError, match=r"E_USAGE data\.source: is not the manifest"):
        generate(trained / "model", tmp_path / "c", f"data.source={tmp_path}")


def test_a_scan_less_itself_with_another_value_is_what_the_condition_changes(tmp_path):
    make_conditioned().save(tmp_path / "model")
    page, record = generate(
        tmp_path / "model", tmp_path / "a", "generate.count=1", "generate.conditions={age: 50}",
        "generate.truncation=1",
    )  # fmt: skip
    changes = record["scans"][0]["changes"]
    assert [change["to"] for change in changes[:2]] == [30.0, 70.0]
    assert changes[2]["condition"] == "sex"
    assert page.count("data:image/png") == 4
    assert "of truncated ones" in page
    model = Model.load(tmp_path / "model")
    wanted = {"sex": changes[2]["from"]}
    old, own = (
        model.generate(1, conditions={"age": age, **wanted}, truncation=1.0)[0].image.data
        for age in (70, 50)
    )
    stored = Volume.load(tmp_path / "a" / changes[1]["file"]).data
    assert np.array_equal(stored, old.astype(float) - own)
    assert changes[1]["mean_change"] == pytest.approx(np.abs(stored).mean() / 1000, abs=1e-6)


@pytest.mark.parametrize("named", ["../../kv", "µ" * 300])
def test_differences_stay_in_their_folder_whatever_a_condition_is_called(named, tmp_path):
    sizes = Condition(name=named, kind="categorical", values=("a/1", "a_1"), shares=(0.5, 0.5))
    make_conditioned(GRID.model_copy(update={"conditions": (sizes,)})).save(tmp_path / "model")
    _, record = generate(tmp_path / "model", tmp_path / "out", "generate.count=2")
    files = [change["file"] for scan in record["scans"] for change in scan["changes"]]
    written = [f"differences/{path.name}" for path in (tmp_path / "out/differences").iterdir()]
    assert sorted(written) == sorted(files)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "out"}


def test_directions_of_covariates_come_from_the_training_scans_beside_the_model(tmp_path):
    folder = write_folder(tmp_path / "scans", 24, labels=False)
    images = sorted(folder.glob("*.nii.gz"))
    bright = [float(Volume.load(path).data.mean()) for path in images]
    pairs = enumerate(zip(images, bright, strict=True))
    rows = [f"{path.name},{value},{n % 7}" for n, (path, value) in pairs]
    (folder / "t.csv").write_text("\n".join(["image,bright,chance", *rows]))
    manifest, _ = index(folder / "t.csv", Pseudonyms(b"key"))
    manifest.with_all_in("train").save(tmp_path / "manifest.json")
    make_model(GRID, noise=0.1).save(tmp_path / "model")
    given = [f"model_uri={tmp_path / 'model'}", "tracking.uri=none"]
    names = "latent.covariates=[bright, chance]"
    run = run_pipeline(
        "directions", [f"out={tmp_path / 'a'}", *given, names, "generate.count=1"]
    )  # fmt: skip
    first, bright_row, chance = run.results["directions"].values["directions"]
    assert first["direction"] == "direction:1"
    assert bright_row["direction"] == "covariate:bright"
    assert bright_row["found"]
    assert not chance["found"]
    assert "chance    none found" in "\n".join(run.closing_lines())
    along = ["latent.along=covariate:bright", "generate.count=3", "data.source=seed:3"]
    run_pipeline("series", [f"out={tmp_path / 'b'}", *given, *along])
    record = json.loads((tmp_path / "b" / "series.json").read_text())
    (subject,) = record["scans"]
    assert [frame["value"] for frame in subject["frames"]] == [-3, 0, 3]
    assert subject["frames"][1]["change"] == 0
    assert subject["frames"][2]["change"] > 0
    make_model(GRID).save(tmp_path / "moved" / "model")
    for model, name, text in (
        (tmp_path / "model", "chance", "E_CONDITION chance: none found"),
        (tmp_path / "moved" / "model", "bright", "E_NO_DATA the training scans"),
    ):
        wanted = [f"model_uri={model}", *given[1:], *along[1:], f"latent.along=covariate:{name}"]
        with pytest.raises(ConfigError, match=text):
            run_pipeline("series", [f"out={tmp_path / name}", *wanted])
