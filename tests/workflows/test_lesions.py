"""`medgan lesions`: healthy scans with lesions drawn into them, as a data set."""

import csv
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data.decathlon_datalist import load_decathlon_datalist
from scipy import ndimage

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ConfigError, DataError
from medgan.core.volume import Volume
from medgan.data.manifest import Manifest
from tests.data.test_shapes import brain
from tests.kit.command_line import inside

TURNED = np.array([[0, 0, -2.0, 80], [-2.0, 0, 0, 96], [0, 2.0, 0, -80], [0, 0, 0, 1]])
"""Not along R, A and S, as scanners store."""
MM = 3.0


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two healthy brains of whole numbers and one of floating point, and two patients."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(3):
        data = 500 + 400 * brain(grey=0.05 * number)
        kind = np.int16 if number < 2 else np.float32
        data = np.moveaxis(data, (0, 1, 2), (1, 2, 0))
        volume = Volume(data.astype(kind), TURNED)
        volume.save(folder / "healthy" / f"h{number}.nii.gz")
        label = np.zeros(data.shape, np.uint8)
        label[40:46, 20:28, 40:48] = 1
        volume.like(label).save(folder / "labelled" / f"h{number}_label.nii.gz")
        volume.save(folder / "labelled" / f"h{number}.nii.gz")
        data = data + 300 * ndimage.gaussian_filter(label.astype(np.float32), 0.5)
        volume.like(data.astype(kind)).save(folder / "patients" / f"p{number}.nii.gz")
        volume.like(label).save(folder / "patients" / f"p{number}_label.nii.gz")
    return folder


def draw(scans, out, *settings, source="healthy"):
    return run_pipeline("draw_lesions", [f"out={out}", f"data.source={scans / source}", *settings])


def pairs(out):
    """Each drawn scan with the scan it was drawn into, and its label map."""
    cases = {case.case: case for case in Manifest.load(out / "manifest.json").cases}
    with (out / "lesions.csv").open() as file:
        for row in csv.DictReader(file):
            image = out / "imagesTr" / f"{row['name']}_0000.nii.gz"
            label = out / "labelsTr" / f"{row['name']}.nii.gz"
            yield Volume.load(cases[row["case"]].image), Volume.load(image), Volume.load(label)


@pytest.mark.parametrize("masks", ["draw.masks=shapes", "draw.masks=examples", "draw.masks=label"])
@pytest.mark.parametrize("bank", [False, True])
def test_beyond_the_margin_scans_are_equal_to_the_bit_in_their_own_grid(
    scans, tmp_path, masks, bank
):
    if masks == "draw.masks=examples" and not bank:
        with pytest.raises(ConfigError, match="examples have masks, and there are none"):
            draw(scans, tmp_path, masks)
        return
    settings = [masks, *([f"draw.examples={scans / 'patients'}"] if bank else [])]
    source = "labelled" if masks == "draw.masks=label" else "healthy"
    done = draw(scans, tmp_path, *settings, source=source)
    assert done.results["draw_lesions"].values["drawn"] == 3
    for before, after, label in pairs(tmp_path):
        assert np.array_equal(before.affine, after.affine)
        mask = label.data == 1
        assert mask.any()
        outside = ndimage.distance_transform_edt(~mask, before.spacing)
        assert np.array_equal(before.data[outside >= MM], after.data[outside >= MM])
        assert (before.data != after.data)[mask].mean() > 0.8
        whole = (before.data % 1 == 0).all()
        assert not whole or (after.data % 1 == 0).all()
        if masks == "draw.masks=label":
            assert mask.sum() == 6 * 8 * 8


def test_every_scan_says_that_it_is_synthetic_and_the_provenance_how(scans, tmp_path):
    draw(scans, tmp_path, "draw.each=2", "draw.seed=5", f"draw.examples={scans / 'patients'}")
    files = sorted(tmp_path.glob("imagesTr/*.nii.gz"))
    assert len(files) == 6
    for path in (*files, *tmp_path.glob("labelsTr/*.nii.gz")):
        assert path.name.startswith("synthetic-lesion-s5-c-")
        assert b"SYNTHETIC (medgan), lesion" in bytes(nibabel.load(path).header["descrip"])
        assert Volume.load(path).is_synthetic
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["synthetic"] is True
    assert provenance["draw"]["seed"] == 5
    assert provenance["examples"] == 3
    assert "medgan" in provenance["generated_with"]
    assert {row["drawn"][:13] for row in provenance["cases"]} == {"example of c-"}
    assert str(scans) not in (tmp_path / "provenance.json").read_text()


def test_the_data_set_is_read_by_monai_nnunet_and_medgan(scans, tmp_path):
    draw(scans, tmp_path)
    items = load_decathlon_datalist(str(tmp_path / "dataset.json"), True, "training")
    assert len(items) == 3
    assert all(item["synthetic"] for item in items)
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert dataset["numTraining"] == 3
    assert dataset["file_ending"] == ".nii.gz"
    assert sorted(dataset["labels"].items()) == [("background", 0), ("label 1", 1)]
    for files in dataset["dataset"].values():
        assert (tmp_path / files["images"][0]).is_file()
        assert files["images"][0].endswith("_0000.nii.gz")
    out = tmp_path / "again"
    done = run_pipeline("check", [f"out={out}", f"data.source={tmp_path}", "tracking.uri=none"])
    assert done.results["index"].values["cases"] == 3
    cases = Manifest.load(out / "manifest.json").cases
    assert {case.covariates["synthetic"] for case in cases} == {"yes"}
    assert all(case.synthetic for case in cases)  # refused as scans to learn from or calibrate on


def test_a_seed_draws_the_same_and_a_scan_does_not_depend_on_the_others(scans, tmp_path):
    draw(scans, tmp_path / "a")
    draw(scans, tmp_path / "b", source="healthy/h1.nii.gz")
    (alone,) = (tmp_path / "b").glob("imagesTr/*")
    data = Volume.load(alone).data
    assert (
        sum(
            np.array_equal(data, Volume.load(path).data)
            for path in (tmp_path / "a").glob("imagesTr/*")
        )
        == 1
    )
    draw(scans, tmp_path / "c", "draw.seed=1", source="healthy/h1.nii.gz")
    (other,) = (tmp_path / "c").glob("imagesTr/*")
    assert not np.array_equal(data, Volume.load(other).data)


def test_scans_without_masks_are_left_out_and_none_is_an_error(scans, tmp_path):
    with pytest.raises(DataError, match="E_LESION all scans"):
        draw(scans, tmp_path, "draw.masks=label")
    assert "E_LABEL" in (tmp_path / "refused.csv").read_text()
    with pytest.raises(DataError, match="E_LABEL the scans of patients"):
        draw(scans, tmp_path, f"draw.examples={scans / 'healthy'}")


def test_the_verb_draws_by_name_and_counts(scans, tmp_path):
    done = inside(
        "lesions", "none", scans / "healthy", "--examples", scans / "patients", "--masks",
        "examples", "-n", "2", "--seed", "3", "-o", tmp_path, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["draw_lesions"]["drawn"] == 6


@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")
def test_the_python_of_the_page_runs(scans, monkeypatch):
    monkeypatch.chdir(scans)
    page = Path(medgan.__file__).parents[1] / "docs" / "how-to" / "lesions.md"
    first, second = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict = {}
    exec(first, names)
    exec(second.replace('"ct"', '"mri"'), names)
    files = {"image": "patients/p0.nii.gz", "label": "patients/p0_label.nii.gz"}
    made = [names["chain"](files) for _ in range(6)]
    assert len({float(item["label"].sum()) for item in made}) > 1
    item = {"image": made[0]["image"], "segmentation": made[0]["label"]}
    names["lesion"] = medgan.RandLesiond("image", "segmentation", names["drawing"], prob=1.0)
    (line,) = re.findall(r"`(lambda .*?)`", page.read_text())
    for transform in [eval(line, names)]:  # as ComposeTransforms of batchgeneratorsv2 does
        item = transform(**item)
    assert item["segmentation"].sum() > made[0]["label"].sum()
