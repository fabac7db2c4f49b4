"""Synthetic scans by condition, from training to files."""

import csv
import json
import logging

import numpy as np
import pydicom
import pytest
import yaml

import medgan
from medgan.app.cli.options import conditions
from medgan.app.pipeline import run_pipeline
from medgan.app.presets import find_pipeline
from medgan.core.config import build
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.workflows.generate import write_synthetic
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import make_model

CONDITIONS = {
    "sex": "categorical", "age": "continuous", "label_1_mm3": "continuous", "noise": "continuous"
}  # fmt: skip


def write_table(folder, name, sexes):
    rows = [
        f"person-{n:02d}.nii.gz,person-{n:02d}_label.nii.gz,{sex},{'n/a' if n == 3 else 20 + n}"
        for n, sex in enumerate(sexes)
    ]
    (folder / name).write_text("\n".join(["image,label,sex,age", *rows]))
    return folder / name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training on conditions: its folder and that of the scans."""
    folder = tmp_path_factory.mktemp("conditions")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    source = write_table(write_folder(folder / "scans", 20), "t.csv", "FM" * 10)
    config = {**TINY, "data": {**TINY["data"], "conditions": CONDITIONS}}
    (folder / "p.yaml").write_text(yaml.safe_dump({"steps": ["index", "train"], "config": config}))
    run_pipeline(str(folder / "p.yaml"), [f"out={folder / 'out'}", f"data.source={source}"])
    yield folder / "out", folder / "scans"
    home.undo()


@pytest.fixture(scope="module")
def model(trained):
    return medgan.load(str(trained[0] / "model"))


def generate(trained, out, *settings):
    model = f"model_uri={trained[0] / 'model'}"
    return run_pipeline("generate", [f"out={out}", model, "tracking.uri=none", *settings])


def table(folder):
    with (folder / "covariates.csv").open() as file:
        return list(csv.DictReader(file))


def test_conditions_travel_with_the_model_and_stand_on_its_card(trained, model):
    assert [c.name for c in model.preprocessing.conditions] == sorted(CONDITIONS)
    assert model.preprocessing.conditions[3].values == ("F", "M")
    card = (trained[0] / "model" / "card.md").read_text()
    assert "; sex (F " in card
    assert "- Conditions: age (2" in card


def test_a_scan_is_a_function_of_seed_number_and_request_alone(model):
    many = model.generate(3, seed=2, conditions={"sex": "F"})
    alone = model.generate(1, seed=2, first=2, conditions={"sex": "F"})[0]
    assert np.array_equal(many[2].image.data, alone.image.data)
    assert many[2].covariates == alone.covariates
    assert alone.covariates["sex"] == "F"
    other = model.generate(1, seed=2, first=2, conditions={"sex": "M"})[0]
    assert other.covariates == alone.covariates | {"sex": "M"}
    ages = {scan.covariates["age"] for scan in many}
    assert len(ages) == 3


def test_the_table_says_what_each_scan_was_generated_by_and_is_a_data_set(trained, tmp_path):
    out = tmp_path / "s"
    generate(
        trained, out, "generate.count=3", "generate.conditions.age=30.5",
        "generate.conditions.label_1_mm3=unknown",
    )  # fmt: skip
    rows = table(out)
    assert [row["age"] for row in rows] == ["30.5"] * 3
    assert [row["label_1_mm3"] for row in rows] == ["n/a"] * 3
    assert {row["sex"] for row in rows} <= {"F", "M"}
    assert all(0 < float(row["noise"]) < 0.1 for row in rows)
    provenance = json.loads((out / "provenance.json").read_text())
    (request,) = provenance["requests"]
    assert request["count"] == 3
    assert request["conditions"] == {"age": "30.5", "label_1_mm3": "unknown"}
    source = f"data.source={out / 'covariates.csv'}"
    done = run_pipeline("check", [f"out={tmp_path / 'c'}", source, "tracking.uri=none"])
    assert done.results["index"].values["cases"] + done.results["index"].values["refused"] == 3
    assert {r.code for r in done.refusals} <= {"E_CONSTANT", "E_DUPLICATE"}


def test_a_number_outside_the_trained_range_warns_once_and_is_noted(trained, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        generate(trained, tmp_path, "generate.count=3", "generate.conditions.age=99")
    assert caplog.text.count("age 99 is outside the 2") == 1
    (request,) = json.loads((tmp_path / "provenance.json").read_text())["requests"]
    assert "outside" in request["remarks"][0]


def test_what_the_model_does_not_know_stops_before_anything_is_written(trained, tmp_path):
    for setting in ("generate.conditions.site=A", "generate.conditions.sex=D"):
        with pytest.raises(ConfigError, match="E_CONDITION"):
            generate(trained, tmp_path, setting)
    assert not (tmp_path / "imagesTr").exists()


def test_a_sentence_is_read_and_recorded_and_one_not_understood_writes_nothing(
    trained, model, tmp_path
):
    out = tmp_path / "s"
    generate(trained, out, "generate.count=1", "generate.text=a 30-year-old woman")
    assert [(row["age"], row["sex"]) for row in table(out)] == [("30.0", "F")]
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["text"] == "a 30-year-old woman"
    assert provenance["requests"][0]["conditions"] == {"age": "30", "sex": "F"}
    (said,) = model.generate(1, text="a 30-year-old woman")
    assert said.covariates == model.generate(1, conditions={"age": 30, "sex": "F"})[0].covariates
    with pytest.raises(ConfigError, match=r"E_TEXT the text: not understood: 'old'; .*age"):
        generate(trained, tmp_path / "t", "generate.text=an old woman")
    assert not (tmp_path / "t" / "imagesTr").exists()


def test_balancing_fills_up_each_rarer_category(trained, tmp_path):
    source = write_table(trained[1], "few.csv", "FMMMMF" + "M")
    out = tmp_path / "b"
    done = generate(
        trained, out, "generate.balance=sex", f"data.source={source}", "generate.conditions.age=30"
    )
    assert done.results["generate"].values["count"] == 3
    assert [(row["sex"], row["age"]) for row in table(out)] == [("F", "30.0")] * 3
    assert not (out / "private_key.csv").exists()


def test_a_balanced_set_gets_nothing(trained, tmp_path, caplog):
    source = write_table(trained[1], "even.csv", "FMMF")
    with caplog.at_level(logging.INFO):
        done = generate(trained, tmp_path / "b", "generate.balance=sex", f"data.source={source}")
    assert done.results["generate"].values == {"count": 0}
    assert "nothing to balance" in caplog.text
    assert not list((tmp_path / "b").glob("[!.]*.json"))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["generate.balance=age", "data.source=."], "E_CONDITION age: .*it has sex"),
        (["generate.balance=sex"], "E_NO_DATA"),
    ],
)
def test_balancing_needs_a_category_of_the_model_and_scans(trained, tmp_path, settings, text):
    with pytest.raises(ConfigError, match=text):
        generate(trained, tmp_path, *settings)


def test_a_minority_that_the_model_never_saw_is_refused(trained, tmp_path):
    source = write_table(trained[1], "odd.csv", "FFMMD")
    with pytest.raises(ConfigError, match="no category D"):
        generate(trained, tmp_path, "generate.balance=sex", f"data.source={source}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("age=70", "generate.conditions.age=70"),
        ("sex=F", "generate.conditions.sex=F"),
        ("label_1_mm3=3000", "generate.conditions.label_1_mm3=3000"),
        ("generate.seed=3", "generate.seed=3"),
        ("model_uri=x", "model_uri=x"),
        ("age", "age"),
    ],
)
def test_a_key_without_a_dot_is_a_condition_unless_it_is_a_setting(text, wanted):
    assert conditions([text]) == [wanted]


def test_values_of_conditions_are_kept_as_they_are_written():
    config = build({}, ["generate.conditions.age=70", "generate.conditions.site=007a"])
    assert config.generate.conditions == {"age": "70", "site": "007a"}
    with pytest.raises(ConfigError, match="quotes"):
        build({}, ["generate.conditions.smoker=no"])


def test_the_brain_preset_knows_age_and_sex():
    values = yaml.safe_load(find_pipeline("ixi_brain_2mm").read_text())["config"]
    assert values["data"]["conditions"] == {"age": "continuous", "sex": "categorical"}


def test_synthetic_scans_become_dicom_only_when_asked_for(tmp_path):
    model = make_model()
    write_synthetic(model, tmp_path / "plain", 1, 0, {})
    assert not list((tmp_path / "plain").rglob("*.dcm"))
    folder = write_synthetic(model, tmp_path / "both", 2, 0, {}, dicom=True)
    entries = json.loads((folder / "dataset.json").read_text())["training"]
    for entry in entries:
        image = medgan.Volume.load(folder / entry["image"])
        name = entry["image"].split("/")[-1].removesuffix(".nii.gz")
        slices = sorted((folder / "dicom" / name).iterdir())
        assert len(slices) == image.data.shape[2]
        top = pydicom.dcmread(slices[-1])
        np.testing.assert_array_equal(
            top.pixel_array, np.rint(image.data[::-1, ::-1, -1].T).astype(int)
        )
        assert "SYNTHETIC" in top.SeriesDescription


def test_the_page_shows_each_scan_and_the_command_that_makes_it_again(trained, tmp_path):
    out = tmp_path / "out"
    settings = ("generate.conditions={sex: F}", "generate.seed=3")
    done = generate(trained, out, "generate.count=3", *settings)
    page = (out / "generated.html").read_text()
    assert done.results["generate"].page == out / "generated.html"
    assert page.count("data:image/png") == 3
    command = "medgan generate MODEL -n 1 --seed 3 --set generate.first=2 --set sex=F -o OUT"
    assert command in page
    generate(trained, tmp_path / "again", "generate.count=1", "generate.first=2", *settings)
    name = "imagesTr/synthetic-s3-00002.nii.gz"
    first, again = (Volume.load(folder / name) for folder in (out, tmp_path / "again"))
    assert np.array_equal(first.data, again.data)
