"""Scans of label maps, from end to end."""

import json

import numpy as np
import pytest
import yaml

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import DataError, ModelError
from medgan.core.volume import Volume
from tests.kit.command_line import inside
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import make_model
from tests.kit.volumes import AFFINE

SETTINGS = {
    **TINY,
    "data": {**TINY["data"], "patches": True, "fractions": [0.5, 0.3, 0.1, 0.1]},
    "train": {**TINY["train"], "task": "mask_to_image"},
}
del SETTINGS["localiser"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that has hardly learned, and the scans that it has learned from."""
    folder = tmp_path_factory.mktemp("masks")
    scans = write_folder(folder / "scans", 10)
    (folder / "tiny.yaml").write_text(
        yaml.safe_dump({"steps": ["index", "train"], "config": SETTINGS})
    )
    run_pipeline(str(folder / "tiny.yaml"), [f"out={folder / 'out'}", f"data.source={scans}"])
    return folder / "out/model", scans


def test_a_label_map_becomes_a_scan_in_its_own_grid(trained):
    model = medgan.load(trained[0])
    label = np.zeros((9, 20, 33), np.uint8)
    label[2:7, 5:15, 8:25] = 1
    affine = np.array([[0, -3, 0, 7], [2, 0, 0, -5], [0, 0, 1.5, 3], [0, 0, 0, 1.0]])
    exact, again, rough = (
        model.image_of(Volume(label, affine), rough_mm, answers=2) for rough_mm in (0, 0, 4)
    )
    image = exact.images["image"]
    assert image.data.shape == label.shape
    assert np.array_equal(image.affine, affine)
    assert np.array_equal(image.data, again.images["image"].data)
    assert not np.array_equal(image.data, rough.images["image"].data)
    assert image.data.min() >= 0
    assert image.data.max() <= 1000


def test_a_blurred_scan_is_made_sharp_by_translate(trained):
    model, scan = medgan.load(trained[0]), trained[1] / "person-00.nii.gz"
    found = model.translate(scan, answers=1).images["image"]
    assert found.data.shape == Volume.load(scan).data.shape


def test_the_verb_takes_label_maps_or_scans(trained, tmp_path):
    model, scans = trained
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(2):
        name = f"person-{number:02d}"
        (masks / f"{name}.nii.gz").write_bytes((scans / f"{name}_label.nii.gz").read_bytes())
    (masks / "scan.nii.gz").write_bytes((scans / "person-03.nii.gz").read_bytes())
    out = tmp_path / "out"
    done = inside("translate", model, masks, "-o", out, "--answers", "1", "--json")
    values = json.loads(done.stdout)
    assert values["translate"]["scans"] == 2
    assert [refusal["code"] for refusal in values["refusals"]] == ["E_LABEL"]
    assert len(list((out / "pictures").iterdir())) == 2
    done = inside(
        "translate", model, masks / "scan.nii.gz", "-o", tmp_path / "sharp", "--answers", "1",
        "--set", "translate.given=scan", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["translate"]["scans"] == 1


def test_other_label_values_and_other_models_are_refused(trained):
    odd = Volume(np.full((16, 16, 16), 7, np.uint8), AFFINE)
    with pytest.raises(DataError, match=r"E_LABEL .* values 7; the model knows 1"):
        medgan.load(trained[0]).image_of(odd)
    with pytest.raises(ModelError, match="E_TRANSLATOR"):
        make_model().image_of(odd)
