"""One subject along a condition: in memory, on disk and from the command line."""

import csv
import json
import logging

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.model.series import direction_of, series
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.models import BY_AGE_AND_SEX, ageing_model, make_conditioned
from tests.kit.volumes import AFFINE, ball

TURNED = np.array([[0, -2.0, 0, 5], [2, 0, 0, -3], [0, 0, 2, 1], [0, 0, 0, 1]])


def scan(affine: np.ndarray = AFFINE) -> Volume:
    return Volume(ball(np.random.default_rng(0)).astype(np.float32), affine)


def test_the_frame_at_the_scans_own_value_is_the_scan_and_the_others_are_edits():
    model, volume = ageing_model(), scan(TURNED)
    known = {"age": 50, "sex": "F"}
    found = series(model, volume, "age", [30, 50, 70], known, steps=1)
    assert [frame.value for frame in found.frames] == [30.0, 50.0, 70.0]
    assert np.array_equal(found.frames[1].image.data, volume.data)
    assert found.frames[1].volume.equal(found.start.volume)
    for frame in found.frames:
        edit = model.edit(volume, {"age": frame.value}, known, steps=1)
        assert np.array_equal(frame.image.data, edit.edited.data)
        assert np.array_equal(frame.image.affine, TURNED)
    assert found.covariates == {"age": 50.0, "sex": "F"}


def test_frames_change_in_even_steps_where_the_model_answers_evenly():
    found = series(ageing_model(), scan(), "age", [30, 40, 50, 60, 70], {"age": 50}, steps=0)
    inner = (slice(None), *[slice(4, -4)] * 3)
    levels = [float(frame.volume[inner].mean()) for frame in found.frames]
    steps = np.diff(levels)
    assert (steps > 0.001).all()
    assert steps == pytest.approx(steps.mean(), rel=0.05)


def test_a_synthetic_subject_is_what_its_latent_generates_with_each_value():
    model = make_conditioned()
    drawn = model.draw(3, 5, {"sex": "F"})
    own = float(drawn.covariates["age"])
    found = series(model, drawn, "age", [own, 70.0])
    plain = model.generate(1, 3, 5, conditions={"sex": "F"})[0]
    older = model.generate(1, 3, 5, conditions={"sex": "F", "age": 70})[0]
    assert np.array_equal(found.frames[0].image.data, plain.image.data)
    assert np.array_equal(found.frames[1].image.data, older.image.data)
    assert np.array_equal(found.frames[1].label.data, older.label.data)
    assert np.array_equal(found.start.image.data, plain.image.data)


def test_what_no_series_can_go_along_is_one_error_and_extrapolation_a_warning(caplog):
    model = make_conditioned()
    with pytest.raises(ConfigError, match=r"E_CONDITION sex: a category .*; go along age, or"):
        series(model, model.draw(0), "sex", [0, 1])
    with pytest.raises(ConfigError, match=r"E_CONDITION weight: no condition .*; go along age"):
        series(model, model.draw(0), "weight", [0, 1])
    bare = make_conditioned(BY_AGE_AND_SEX.model_copy(update={"conditions": ()}))
    with pytest.raises(ConfigError, match="train with a continuous condition"):
        series(bare, bare.draw(0), "age", [0, 1])
    with caplog.at_level(logging.WARNING):
        series(model, model.draw(0, conditions={"age": "unknown"}), "age", [10, 30, 95])
    assert "age 10 is outside the 20 to 80 trained on" in caplog.text
    assert "age 95 is outside the 20 to 80 trained on" in caplog.text
    assert caplog.text.count("is unknown") == 1


def test_along_a_direction_the_subject_is_in_the_middle_and_its_covariates_stay(caplog):
    model, volume = make_conditioned(), scan()
    found = series(model, volume, "direction:2", [-1, 0, 1], {"age": 50}, steps=1)
    assert np.array_equal(found.frames[1].image.data, volume.data)
    assert found.frames[0].image.data.tolist() != volume.data.tolist()
    moved = found.frames[2].latent - found.start.latent
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)
    assert moved == pytest.approx(direction_of(model, "direction:2"), abs=1e-5)
    assert not found.remarks
    drawn = model.draw(0, conditions={"age": 30})
    plain = model.generate(1, conditions={"age": 30})[0]
    there = series(model, drawn, "direction:1", [0, 9])
    assert np.array_equal(there.frames[0].image.data, plain.image.data)
    assert there.remarks[0] in caplog.text
    with pytest.raises(ConfigError, match=r"E_VALUE direction:9: no such direction; .* 1 to 8"):
        series(model, volume, "direction:9", [0, 1])


@pytest.fixture
def model_folder(tmp_path):
    make_conditioned().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_series_of_a_scan_on_disk_is_4d_in_its_grid_with_values_strip_and_film(
    model_folder, tmp_path
):
    folder = write_folder(tmp_path / "scans", 1, labels=False)
    out, source = tmp_path / "out", folder / "person-00.nii.gz"
    done = inside(
        "series", model_folder, source, "--along", "age", "--from", 30, "--to", 90, "-n", 4,
        "--known", "age=50", "--known", "sex=F", "-o", out, "--set", "latent.steps=1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "series.json").read_text())
    assert record["remarks"] == ["age 90.0 is outside the 20 to 80 trained on"]
    assert record["synthetic"]
    one = record["scans"][0]
    assert one["covariates"] == {"age": 50.0, "sex": "F"}
    assert [frame["value"] for frame in one["frames"]] == [30.0, 50.0, 70.0, 90.0]
    assert one["frames"][1]["change"] == 0
    assert one["frames"][1]["similarity"] == 1
    assert one["frames"][3]["change"] > one["frames"][2]["change"] > 0
    original, image = nibabel.load(source), nibabel.load(out / one["series"])
    assert image.shape == (*original.shape, 4)
    assert np.array_equal(image.affine, original.affine)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert float(image.header["pixdim"][4]) == 20
    assert float(image.header["toffset"]) == 30
    assert image.header["descrip"].item().decode() == "SYNTHETIC (medgan), age 30 to 90"
    assert np.array_equal(image.get_fdata()[..., 1], original.get_fdata())
    assert (out / "strips" / f"{one['case']}.png").is_file()
    with Image.open(out / "films" / f"{one['case']}.gif") as film:
        assert film.n_frames == 4
        assert film.info["loop"] == 0
    stay = ("manifest.json", "private_key.csv")  # they name files
    files = [p for p in out.rglob("*") if p.suffix in (".json", ".csv") and p.name not in stay]
    assert "person-00" not in "".join(p.read_text() for p in files)


def test_a_series_of_a_seed_has_labels_and_the_training_range_by_default(model_folder, tmp_path):
    out = tmp_path / "out"
    done = inside(
        "series", model_folder, "seed:3/5", "--along", "age", "-n", 3, "--known", "sex=F", "-o", out
    )
    assert done.returncode == 0, done.stderr
    with (out / "series.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row["case"] == "seed-3-5"
    labels = nibabel.load(out / "labels" / "seed-3-5.nii.gz")
    assert labels.shape == (16, 16, 16, 3)
    record = json.loads((out / "series.json").read_text())
    assert (record["from"], record["to"], record["remarks"]) == (20, 80, [])
    assert record["scans"][0]["covariates"]["sex"] == "F"
    again = inside("series", model_folder, "seed:3", "--along", "age", "--from", 80, "--to", 40,
                   "-o", tmp_path / "no")  # fmt: skip
    assert again.returncode == 2
    assert "E_VALUE a series: age 80 to 40 does not rise; name a larger --to" in again.stderr


def test_directions_are_shown_and_a_series_goes_along_them(model_folder, tmp_path):
    out = tmp_path / "out"
    done = inside("directions", model_folder, "-n", 2, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "directions.json").read_text())
    assert [row["direction"] for row in record["directions"]] == ["direction:1", "direction:2"]
    assert record["directions"][0]["share"] > record["directions"][1]["share"] > 0
    assert (out / "directions.png").is_file()
    far = ("--along", "direction:1", "--from", -9, "--to", 9, "-n", 2, "-o", tmp_path / "far")
    assert inside("series", model_folder, "seed:0", *far).returncode == 0
    remarks = json.loads((tmp_path / "far" / "series.json").read_text())["scans"][0]["remarks"]
    assert remarks[0].endswith("times the usual length is outside of those trained on")
