import json

import numpy as np
import pytest

from medgan.core.config import ScoreConfig
from medgan.core.errors import ModelError
from medgan.core.files import sha256_of
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.packages.bundle import configurations, write_bundle
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import SUMS, contents
from medgan.model.model import Model
from medgan.workflows.score import score_cases
from tests.kit.models import make_model

REQUIRED = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "task", "description", "authors", "copyright"),
    "network_data_format",
)
"""Of MONAI's schema of July 2024, as are the fields of a tensor."""
TENSOR = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}


@pytest.fixture
def bundle(packaged, tmp_path):
    write_bundle(packaged, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_holds_what_its_checksums_say_and_no_file_that_nobody_vouches_for(
    bundle, packaged, says_nothing_of_this_machine
):
    sums = dict(line.split("  ")[::-1] for line in (bundle / SUMS).read_text().splitlines())
    assert sums == {name: sha256_of(bundle / name) for name in contents(bundle)}
    held = {name for name in sums if name.startswith("models/")}
    assert held == {f"models/{name}" for name in packaged.files}
    assert "models/notes_on_patients.txt" not in sums
    assert Model.load(bundle / "models").digest == packaged.model.digest
    says_nothing_of_this_machine(bundle)


def test_a_bundle_is_the_same_when_it_is_made_again(bundle, packaged, tmp_path):
    write_bundle(packaged, tmp_path / "again")
    assert (tmp_path / "again" / SUMS).read_bytes() == (bundle / SUMS).read_bytes()


def test_the_metadata_have_every_field_of_monais_schema(bundle):
    found = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert not [name for name in REQUIRED if not found[name]]
    assert (found["name"], found["version"]) == ("brain", "3.0.0")
    formats = [values for name, values in found.items() if name.endswith("_data_format")]
    tensors = [t for one in formats for ports in one.values() for t in ports.values()]
    assert len(formats) == 3
    assert all(tensor.keys() >= TENSOR for tensor in tensors)
    assert found["network_data_format"]["inputs"]["image"]["spacing"] == [2, 2, 2]
    assert found["generator_data_format"]["inputs"]["condition"]["num_channels"] == 4
    assert "Research use only" in found["task"]


@pytest.mark.filterwarnings("ignore")  # MONAI warns of every configuration that it runs
def test_a_bundle_run_by_monai_scores_as_medgan_does(bundle, packaged, scans, tmp_path):
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"), str(bundle / "configs" / "metadata.json"),
        workflow_type="infer", bundle_root=str(bundle), dataset_dir=str(scans),
        output_dir=str(tmp_path / "results"),
    )  # fmt: skip
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    cases = index(scans, Pseudonyms.of_site())[0].cases
    settings = ScoreConfig()
    rows, _ = score_cases(packaged.model, cases, tmp_path / "scored", settings)
    found = json.loads((tmp_path / "results" / "scores.json").read_text())["scans"]
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in rows])
    assert len(found) == 2
    for one in found:
        a, b = (Volume.load(tmp_path / where / one["map"]) for where in ("results", "scored"))
        np.testing.assert_allclose(a.data, b.data, atol=1e-3)
        np.testing.assert_array_equal(a.affine, b.affine)


@pytest.mark.filterwarnings("ignore")
def test_a_bundle_draws_scans_as_medgan_does(bundle, packaged, tmp_path):
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        str(bundle / "configs" / "generate.json"), workflow_type="infer", bundle_root=str(bundle),
        output_dir=str(tmp_path / "drawn"), count=1, seed=5, conditions={"age": 70, "sex": "F"},
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    (path,) = (tmp_path / "drawn" / "imagesTr").iterdir()
    wanted = packaged.model.generate(1, 5, conditions={"age": 70, "sex": "F"})[0]
    np.testing.assert_array_equal(Volume.load(path).data, wanted.image.data)


def test_a_model_that_only_draws_has_its_configuration_under_the_name_that_monai_looks_for():
    found = configurations(make_model())
    assert found["inference"] == found["generate"]
    assert "dataset_dir" not in found["inference"]


def test_a_model_that_does_nothing_with_scans_is_refused(tmp_path, packaged):
    model = make_model()
    model.networks._generator = None
    with pytest.raises(ModelError, match="E_PACKAGE"):
        write_bundle(Packaged(packaged.folder, model, {}), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
