"""Model folders as MLflow models."""

import shutil

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import load_model

from medgan.anomaly.calibration import ScoringConfig
from medgan.core.conversion import Conversion
from medgan.core.volume import Volume
from medgan.model.fresh_networks import translating_networks
from medgan.model.model import Model
from medgan.tracking.pyfunc import write_mlflow_model
from medgan.tracking.registry import model_folder
from tests.kit.models import BY_AGE_AND_SEX, SIZES, make_model
from tests.kit.paired_scans import MR_AND_CT

SPACING = (2.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def scans():
    rng = np.random.default_rng(0)
    ramp = np.linspace(100, 900, 18)[:, None, None]
    return [(ramp + 60 * rng.random((18, 17, 12))).astype(np.float32) for _ in range(20)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, scans):
    """A calibrated model in the folder of a patient, and the MLflow model of it."""
    folder = tmp_path_factory.mktemp("hospital") / "DOE_JANE"
    model = make_model()
    affine = np.diag([*SPACING, 1])
    model.learn_densities(lambda: [model.channels(model.draw(0, n))[None, :1] for n in range(4)])
    ages = [{"age": 30.0 + 5 * n} for n in range(len(scans))]
    by_age = ScoringConfig(("density",), covariates={"age": "continuous"})
    model.calibrate([Volume(scan, affine) for scan in scans], by_age, covariates=ages)
    model.save(folder)
    write_mlflow_model(folder, folder.parent / "mlflow")
    return folder, folder.parent / "mlflow"


def test_mlflow_scores_paths_and_arrays_as_medgan_does(recorded, scans, tmp_path):
    folder, made = recorded
    affine = np.diag([*SPACING, 1])
    Volume(scans[0], affine).save(tmp_path / "scan.nii.gz")
    expected = Model.load(folder).score(str(tmp_path / "scan.nii.gz"), covariates={"age": 80})
    assert expected.score != Model.load(folder).score(str(tmp_path / "scan.nii.gz")).score
    # Of a copy: Python may keep the bytecode of what it loads, which names its folder.
    served = load_model(str(shutil.copytree(made, tmp_path / "mlflow")))
    table = pd.DataFrame(
        {
            "image": [
                str(tmp_path / "scan.nii.gz"),
                scans[0],
                "absent.nii.gz",
                [[1.0], [2.0, 3.0]],
            ],
            "spacing": [None, list(SPACING), None, None],
            "age": [80.0] * 4,
        }
    )
    found = served.predict(table, params={"maps": True})
    assert found["score"][:2].tolist() == pytest.approx([expected.score] * 2, rel=1e-4)
    assert found["p_value"][0] == expected.p_value
    assert np.allclose(found["map"][0], expected.score_map.data)
    assert len(found["regions"][0]) == len(expected.regions)
    assert found["error"].str.partition(" ")[0].tolist() == ["", "", "E_UNREADABLE", "E_VALUE"]
    assert "DOE" not in "".join(found["error"])


def test_mlflow_draws_scans_by_seed_and_condition(tmp_path):
    make_model(BY_AGE_AND_SEX).save(tmp_path / "model")
    write_mlflow_model(tmp_path / "model", tmp_path / "mlflow")
    rows = pd.DataFrame(
        {
            "seed": [3.0, 3.0, None, 1.5],
            "age": [70.0, "old", None, 1.0],
            "sex": ["F", None, "F", "F"],
        }
    )
    found = load_model(str(tmp_path / "mlflow")).predict(rows)
    same = Model.load(tmp_path / "model").generate(1, 3, conditions={"age": 70, "sex": "F"})[0]
    assert np.array_equal(found["image"][0], same.image.data)
    assert found["error"].str.partition(" ")[0].tolist() == [
        *("", "E_CONDITION", "E_CHANNEL", "E_VALUE")
    ]


def test_a_model_that_neither_scores_nor_draws_is_recorded_and_says_so(tmp_path):
    conversion = Conversion("translation", ("T1w",), ("ct",), noise=False)
    networks = translating_networks(MR_AND_CT, SIZES, conversion)
    Model(networks, MR_AND_CT, SIZES, {}).save(tmp_path / "model")
    write_mlflow_model(tmp_path / "model", tmp_path / "mlflow")
    scan = np.zeros((4, 4, 4))
    found = load_model(str(tmp_path / "mlflow")).predict(
        pd.DataFrame({"T1w": [scan], "ct": [scan]})
    )
    assert found["error"][0].startswith("E_")


@pytest.mark.fault(33)
def test_nothing_of_this_machine_is_written_and_native_loading_runs_no_code(recorded):
    folder, made = recorded
    for file in made.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            text = file.read_text(encoding="utf-8")
            assert "DOE" not in text, file.name
            assert str(folder.parent) not in text, file.name
    (made / "served.py").write_text("raise RuntimeError('run')")
    inside = model_folder(made)
    assert Model.load(inside).facts == Model.load(folder).facts
    assert model_folder(folder) == folder
