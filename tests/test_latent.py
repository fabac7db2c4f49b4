"""Truncation, inversion, interpolation and edits of a model."""

import csv
import json
import logging
import re

import numpy as np
import pytest
import torch

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.model.outputs import Latent
from tests.kit.data_sets import write_folder
from tests.kit.models import BY_AGE_AND_SEX, ageing_model, make_conditioned
from tests.kit.volumes import AFFINE, ball


def scan(seed: int = 0) -> Volume:
    return Volume(ball(np.random.default_rng(seed)).astype(np.float32), AFFINE)


def image(synthetic):
    return synthetic.image.data


def test_truncation_off_is_the_default_and_a_scan_stays_a_function_of_its_number():
    model = make_conditioned()
    many = model.generate(4, seed=3, truncation=0.7)
    alone = model.generate(1, seed=3, first=2, truncation=0.7)[0]
    assert np.array_equal(image(many[2]), image(alone))
    plain = model.generate(3, seed=3)
    assert np.array_equal(image(plain[2]), image(model.generate(3, seed=3, truncation=0.0)[2]))
    assert not np.array_equal(image(plain[2]), image(alone))
    assert plain[2].covariates == alone.covariates


def test_truncation_redraws_only_what_lies_beyond():
    model = make_conditioned()
    whole = [model.draw(0, n).values for n in range(50)]
    cut = [model.draw(0, n, truncation=1.0).values for n in range(50)]
    for before, after in zip(whole, cut, strict=True):
        inside = np.abs(before) <= 1
        assert np.abs(after).max() <= 1
        assert np.array_equal(before[inside], after[inside])
    # Beyond all coordinates: the image is that without truncation.
    far, plain = model.generate(1, truncation=9.0)[0], model.generate(1)[0]
    assert np.array_equal(image(far), image(plain))


def test_an_inversion_betters_the_encoder_in_the_scans_own_grid():
    model = make_conditioned()
    padded = Volume(np.pad(scan().data, ((0, 4), (2, 0), (0, 0))), AFFINE)
    found = model.invert(padded, steps=30, covariates={"age": 60})
    assert found.error_after < found.error_before
    assert found.latent.covariates == {"age": 60.0, "sex": None}
    for volume in (found.start, found.recon):
        assert volume.data.shape == padded.data.shape
        assert np.array_equal(volume.affine, padded.affine)
    start = model.invert(padded, steps=0, covariates={"age": 60})
    assert np.array_equal(start.recon.data, found.start.data)
    assert np.array_equal(start.latent.values, model.encode(padded))
    assert start.error_after == start.error_before == found.error_before


def test_what_an_inversion_minimises_is_the_error_it_reports():
    """On the model's own grid, where nothing is resampled on the way back."""
    model, volume = make_conditioned(), scan()
    found = model.invert(volume, steps=5)
    prepared = model.prepare(volume)
    recon = prepared.scale[0](torch.as_tensor(found.recon.data))
    error = np.abs(recon.numpy() - prepared.volume[0].numpy()).mean()
    assert error == pytest.approx(found.error_after, rel=1e-3)


def test_an_interpolation_begins_and_ends_at_its_ends():
    model = make_conditioned()
    a, b = model.draw(1), model.draw(2)
    there, back = model.interpolate(a, b, 5), model.interpolate(b, a, 5)
    assert [frame.number for frame in there] == [0, 1, 2, 3, 4]
    for one, other in zip(there, back[::-1], strict=True):
        assert np.abs(image(one).astype(int) - image(other)).max() <= 1
    assert np.array_equal(image(there[0]), image(back[-1]))
    still = model.interpolate(a, a, 3)
    assert all(np.array_equal(image(frame), image(there[0])) for frame in still)
    assert there[0].covariates == a.covariates
    assert there[-1].covariates == b.covariates
    middle = (a.covariates["age"] + b.covariates["age"]) / 2
    assert there[2].covariates["age"] == pytest.approx(middle)
    assert all(frame.label is not None for frame in there)


def test_conditions_go_linearly_between_the_ends():
    model = ageing_model()
    values = np.ones(8, np.float32)
    ends = [Latent(values, {"age": age}) for age in (30.0, 60.0)]
    levels = [image(frame).mean() for frame in model.interpolate(*ends, 4)]
    asked = [
        image(model.interpolate(*[Latent(values, {"age": age})] * 2, 2)[0]).mean()
        for age in (30.0, 40.0, 50.0, 60.0)
    ]
    assert levels == pytest.approx(asked, abs=1)
    assert np.ptp(levels) > 10


def test_scans_can_be_interpolated_too_and_fewer_than_two_frames_are_refused():
    model = make_conditioned()
    frames = model.interpolate(scan(0), scan(1), 2, steps=2)
    again = model.interpolate(model.invert(scan(0), 2).latent, scan(1), 2, steps=2)
    assert np.array_equal(image(frames[0]), image(again[0]))
    with pytest.raises(ConfigError, match="E_VALUE"):
        model.interpolate(scan(0), scan(1), 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_an_edit_that_changes_nothing_returns_the_scan_to_the_bit(kind):
    model = make_conditioned()
    volume = Volume(np.pad(scan().data.astype(kind), ((3, 0), (0, 1), (0, 0))), AFFINE)
    known = {"age": 60, "sex": "F"}
    for changes in ({}, {"age": "60"}, known):
        edit = model.edit(volume, changes, known, steps=2)
        assert np.array_equal(edit.edited.data, volume.data)
        assert not edit.difference.data.any()
        assert np.array_equal(edit.generated.data.shape, volume.data.shape)


def test_an_edit_moves_the_scan_as_the_condition_does():
    model, volume = ageing_model(), scan()
    edits = {age: model.edit(volume, {"age": age}, {"age": 50}, steps=0) for age in (30, 60, 70)}
    inner = (slice(4, -4),) * 3
    change = {age: edit.difference.data[inner].mean() for age, edit in edits.items()}
    assert change[30] < 0 < change[60] < change[70]
    assert change[70] == pytest.approx(-change[30], rel=1e-3)
    assert change[70] == pytest.approx(2 * change[60], rel=1e-3)
    for edit in edits.values():
        expected = np.clip(volume.data + edit.difference.data, volume.data.min(), volume.data.max())
        assert np.array_equal(edit.edited.data, expected)


def test_an_edit_comes_in_the_scans_own_grid_and_leaves_what_the_model_does_not_see():
    model = ageing_model()
    turned = np.array([[0, -2.0, 0, 5], [2, 0, 0, -3], [0, 0, 2, 1], [0, 0, 0, 1]])
    volume = Volume(np.pad(scan().data, ((0, 0), (8, 0), (0, 0))), turned)
    edit = model.edit(volume, {"age": 80}, {"age": 50}, steps=1)
    for result in (edit.edited, edit.difference, edit.generated):
        assert result.data.shape == volume.data.shape
        assert np.array_equal(result.affine, turned)
    assert edit.difference.data[:, 4:-4].all()
    assert np.array_equal(edit.edited.data[:, :4], volume.data[:, :4])
    assert edit.covariates == {"age": 80.0, "sex": None}


def test_what_cannot_be_edited_is_said(caplog):
    bare = make_conditioned(BY_AGE_AND_SEX.model_copy(update={"conditions": ()}))
    with pytest.raises(ConfigError, match="E_CONDITION the model: has no conditions to edit"):
        bare.edit(scan(), {"age": 80})
    model = make_conditioned()
    with pytest.raises(ConfigError, match=r"E_CONDITION agee: .*did you mean age"):
        model.edit(scan(), {"agee": 80})
    with pytest.raises(ConfigError, match="E_CONDITION sex: no category X"):
        model.edit(scan(), {"age": 80}, {"sex": "X"})
    with pytest.raises(ConfigError, match="E_CONDITION weight"):
        model.invert(scan(), covariates={"weight": 80})
    with caplog.at_level(logging.WARNING):
        model.edit(scan(), {"age": 99}, steps=0)
    assert "age 99 is outside the 20 to 80 trained on" in caplog.text
    assert "age of the scan is unknown" in caplog.text


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A saved model and a table of two scans."""
    folder = tmp_path_factory.mktemp("latent")
    make_conditioned().save(folder / "model")
    write_folder(folder / "scans", 2, labels=False)
    table = "image,age,sex\nperson-00.nii.gz,40,F\nperson-01.nii.gz,n/a,X\n"
    (folder / "scans" / "t.csv").write_text(table)
    return folder


def run(places, pipeline, out, *settings):
    first = [f"out={out}", f"model_uri={places / 'model'}", "tracking.uri=none", "latent.steps=2"]
    return run_pipeline(pipeline, [*first, *settings])


def published(folder):
    """All text that leaves the house."""
    files = [p for p in folder.rglob("*") if p.suffix in (".json", ".csv")]
    return "\n".join(p.read_text() for p in files if not p.name.startswith("private_key"))


def described(path):
    import nibabel

    return nibabel.load(path).header["descrip"].item().decode()


def test_inversions_on_disk_carry_pseudonyms_errors_and_the_tables_covariates(places, tmp_path):
    source = places / "scans" / "t.csv"
    done = run(places, "invert", tmp_path, f"data.source={source}")
    assert done.results["invert"].values["scans"] == 2
    with (tmp_path / "latents.csv").open() as file:
        rows = list(csv.DictReader(file))
    record = json.loads((tmp_path / "latents.json").read_text())
    assert record["synthetic"]
    assert [s["covariates"] for s in record["scans"]] == [
        {"age": 40.0, "sex": "F"}, {"age": None, "sex": None},
    ]  # fmt: skip
    for row, listed in zip(rows, record["scans"], strict=True):
        assert float(row["error_after"]) <= float(row["error_before"])
        assert len(listed["latent"]) == 8
        assert described(tmp_path / row["recon"]).startswith("SYNTHETIC")
        assert (tmp_path / "pictures" / f"{row['case']}.png").is_file()
    found = medgan.load(str(places / "model")).invert(
        places / "scans" / "person-00.nii.gz", 2, {"age": 40, "sex": "F"}
    )
    assert record["scans"][0]["latent"] == found.latent.values.tolist()
    (tmp_path / "manifest.json").unlink()  # it names files; it stays in the house
    assert "person-0" not in published(tmp_path)


def test_edits_on_disk_keep_geometry_and_say_what_was_asked(places, tmp_path):
    done = run(
        places, "edit", tmp_path, f"data.source={places / 'scans' / 't.csv'}",
        "latent.changes.age=70", "latent.known.sex=M",
    )  # fmt: skip
    assert done.results["edit"].values["scans"] == 2
    record = json.loads((tmp_path / "edits.json").read_text())
    assert record["changes"] == {"age": "70"}
    first = record["scans"][0]
    assert first["covariates"] == {"age": 40.0, "sex": "M"}
    assert first["changed"] == {"age": 70.0, "sex": "M"}
    name = f"{first['case']}.nii.gz"
    before, after, difference = (
        Volume.load(tmp_path / kind / name) for kind in ("before", "after", "difference")
    )
    original = Volume.load(places / "scans" / "person-00.nii.gz")
    assert np.array_equal(before.data, original.data)
    assert np.array_equal(after.affine, original.affine)
    expected = np.clip(before.data + difference.data, before.data.min(), before.data.max())
    assert np.array_equal(after.data, expected)
    for kind in ("after", "difference", "generated"):
        assert described(tmp_path / kind / name).startswith("SYNTHETIC")
    assert (tmp_path / "pictures" / f"{first['case']}.png").is_file()


def test_an_interpolation_on_disk_runs_from_a_seed_to_a_scan(places, tmp_path):
    end = places / "scans" / "person-01.nii.gz"
    run(places, "interpolate", tmp_path, f"latent.ends=['seed:3/5', '{end}']", "generate.count=3")
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    assert names == [f"frame-00{n}.nii.gz" for n in range(3)]
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == names
    assert described(tmp_path / "images" / names[0]).startswith("SYNTHETIC")
    assert (tmp_path / "strip.png").is_file()
    ends = json.loads((tmp_path / "provenance.json").read_text())["ends"]
    assert ends[0] == "seed 3 number 5"
    assert re.fullmatch("c-[0-9a-f]{10}", ends[1])
    model = medgan.load(str(places / "model"))
    frames = model.interpolate(model.draw(3, 5), model.invert(end, 2).latent, 3)
    assert np.array_equal(Volume.load(tmp_path / "images" / names[0]).data, image(frames[0]))


def test_wrong_ends_and_empty_edits_are_one_error(places, tmp_path):
    with pytest.raises(ConfigError, match="E_USAGE"):
        run(places, "interpolate", tmp_path, f"latent.ends=['seed:3', '{places / 'scans'}']")
    with pytest.raises(ConfigError, match=r"E_CONDITION latent\.changes: nothing to change"):
        run(places, "edit", tmp_path, f"data.source={places / 'scans'}")
    with pytest.raises(ConfigError, match="E_CONDITION weight"):
        run(places, "edit", tmp_path, f"data.source={places / 'scans'}", "latent.changes.weight=1")
