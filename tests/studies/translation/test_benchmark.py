"""The benchmark of translations on patients whose CT follows from their MR by a rule."""

import csv
import json
from functools import partial

import numpy as np
import pytest
import torch

from medgan.core.config import ModelConfig
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError, DataError
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import with_given_splits
from medgan.model.fresh_networks import translating_networks
from medgan.model.model import Model
from medgan.studies.translation import benchmark
from medgan.studies.translation.benchmark import REPORT, TABLE, run_translation
from medgan.studies.translation.report import ONE, OWN
from tests.kit.paired_scans import MR_AND_CT, paired
from tests.kit.pictures import is_drawn

SIZES = ModelConfig(latent=8, widths=(16, 16), stem_channels=16, blocks=1)
PSEUDONYMS = Pseudonyms(b"salt")
SPLITS = {"train": ["p0", "p1", "p2", "p3"], "validation": ["p4"], "test": ["p5", "p6"]}


def model(source: str, target: str, noise: bool = True) -> Model:
    """One that was never trained."""
    torch.manual_seed(0)
    conversion = Conversion("translation", (source,), (target,), noise)
    return Model(translating_networks(MR_AND_CT, SIZES, conversion), MR_AND_CT, SIZES, {})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("patients")
    rows = ["T1w,ct,label,subject"]
    for number in range(7):
        scan = paired(number)
        assert scan.label is not None
        for name, file in (*scan.images.items(), ("label", scan.label)):
            file.volume.save(folder / f"{number}_{name}.nii.gz")
        files = ",".join(f"{number}_{name}.nii.gz" for name in ("T1w", "ct", "label"))
        rows.append(f"{files},p{number}")
    (folder / "list.csv").write_text("\n".join(rows))
    found, _ = index(folder / "list.csv", PSEUDONYMS, channels=("T1w", "ct"))
    return with_given_splits(found, SPLITS, PSEUDONYMS)


@pytest.fixture
def _short_judge(monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "judge", partial(benchmark.judge, steps=20))


@pytest.mark.slow
@pytest.mark.usefixtures("_short_judge")
def test_an_untrained_model_is_far_behind_a_regression_that_knows_the_rule(tmp_path, manifest):
    values = run_translation(
        {OWN: model("T1w", "ct"), "other": model("T1w", "ct", noise=False)}, manifest, tmp_path
    )
    found = values["channels"]["ct"]
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {OWN, OWN + ONE, "other", "constant", "mean image", "regression"}
    assert (found["unit"], found["patients"]) == ("HU", 2)
    assert rows["regression"]["metrics"]["mae"]["value"] < 5
    assert rows["regression"]["ours_minus"]["mae"]["low"] > 50
    assert rows["regression"]["ours_minus"]["ssim"]["high"] < 0
    judged = {name for name, row in rows.items() if "judge_auroc" in row}
    assert judged == set(rows) - {"constant", "mean image"}
    assert all(0 <= rows[name]["judge_auroc"]["value"] <= 1 for name in judged)
    assert len(found["spread"]["error_by_fifth"]) == 5
    assert json.loads((tmp_path / REPORT).read_text())["table"] == values["table"]
    assert is_drawn(tmp_path / "translation_ct.png")
    with (tmp_path / TABLE).open() as file:
        table = list(csv.DictReader(file))
    tested = {case.case for case in manifest.split("test")}
    assert {row["case"] for row in table} == tested
    assert len(table) == 2 * len(rows)
    mean = np.mean([float(row["mae"]) for row in table if row["method"] == "regression"])
    assert mean == pytest.approx(rows["regression"]["metrics"]["mae"]["value"], abs=1e-3)


def test_models_of_other_channels_and_too_few_patients_are_refused(tmp_path, manifest):
    models = {OWN: model("T1w", "ct"), "other": model("ct", "T1w")}
    with pytest.raises(ConfigError, match=r"E_CHANNEL translation\.others\.other"):
        run_translation(models, manifest, tmp_path)
    few = Manifest(tuple(case for case in manifest.cases if case.split != "validation"))
    with pytest.raises(DataError, match="E_SPLIT the patients: 4 train, 0 validation, 2 test"):
        run_translation({OWN: models[OWN]}, few, tmp_path)
