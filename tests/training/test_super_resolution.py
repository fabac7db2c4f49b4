"""Super-resolution from end to end: trained, used on thick scans, measured."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import yaml

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import ConfigError, DataError, ModelError
from medgan.core.volume import Volume
from medgan.data.acquisition import Acquisition, coarse_scan
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.models import make_model
from tests.kit.pictures import is_drawn
from tests.kit.volumes import ball

SETTINGS = {
    "data": {
        "spacing": [2, 2, 2], "shape": [16, 16, 16], "patches": True,
        "fractions": [0.4, 0.1, 0.2, 0.3],
    },
    "translate": {"noise": False},
    "model": {"latent": 8, "widths": [16, 16], "stem_channels": 16, "blocks": 1},
    "train": {
        "task": "super_resolution", "metric": "translation", "volumes": 16, "batch": 2, "warmup": 4,
        "sample_every": 8,
    },
    "tracking": {"uri": "none"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that was trained for a moment, and its scans."""
    folder = tmp_path_factory.mktemp("super-resolution")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    home.setattr("medgan.studies.super_resolution.segmenter.STEPS", 2)
    home.setattr("medgan.studies.super_resolution.segmenter.FEWEST", 2)
    source = write_folder(folder / "scans", 20)
    pipeline = folder / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": SETTINGS}))
    run_pipeline(str(pipeline), [f"out={folder / 'out'}", f"data.source={source}"])
    yield SimpleNamespace(folder=folder, source=source, model=folder / "out" / "model")
    home.undo()


def thick(order: str = "RAS", thickness: float = 6.0) -> Volume:
    """A ball of 100 on 10, in slices 6 mm apart, 2 mm within them, in any order of axes."""
    fine = ball(np.random.default_rng(0), (24, 24, 24)).astype(np.float32)
    acquisition = Acquisition.simulated(fine.shape, 2, 3.0, thickness / 2)
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = (-20, 7, 30)
    image = nibabel.Nifti1Image(acquisition.degrade(fine), affine)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(order)
        )
    )
    return Volume(np.asarray(turned.dataobj, dtype=np.float32), turned.affine)


@pytest.mark.parametrize("order", ["RAS", "PIL", "LPS"])
def test_thick_slices_become_a_finer_scan_at_the_same_place_that_gives_them_back(made, order):
    scan, model = thick(order), medgan.load(made.model)
    found = model.translate(scan)
    image = found.images["image"]
    assert image.shape == (24, 24, 24)
    assert np.allclose(image.spacing, 2)
    middle = image.affine @ [11.5, 11.5, 11.5, 1]
    assert np.allclose(middle, scan.affine @ [*((np.array(scan.shape) - 1) / 2), 1])
    slices = coarse_scan(scan, (2.0, 2.0, 2.0))
    again = slices.acquisition.degrade(image.data)
    assert np.abs(again - slices.data).max() < 1e-4 * scan.data.max()
    assert found.answers == 1


def test_slices_with_gaps_are_given_back_by_their_own_thickness(made):
    scan, model = thick(thickness=3.0), medgan.load(made.model)
    image = model.translate(scan, thickness_mm=3.0).images["image"]
    slices = coarse_scan(scan, (2.0, 2.0, 2.0), 3.0)
    apart = np.abs(slices.acquisition.degrade(image.data) - slices.data).max()
    assert apart < 1e-4 * scan.data.max()
    with pytest.raises(DataError, match="times as thick as its"):
        model.translate(scan, thickness_mm=15.0)


def test_it_is_the_network_that_restores_and_the_projection_that_keeps_it_true(made):
    model, slices = medgan.load(made.model), coarse_scan(thick(), (2.0, 2.0, 2.0))
    image = model.translate(thick()).images["image"].data
    plain = slices.acquisition.deconvolved(slices.data)
    assert np.abs(image - plain).max() > 1e-2  # of 100


def test_the_orientation_of_a_file_changes_no_voxel(made):
    model = medgan.load(made.model)
    first, second = (model.translate(thick(order)).images["image"] for order in ("RAS", "LPS"))
    assert np.allclose(first.affine, second.affine)
    assert np.allclose(first.data, second.data, atol=1e-3)


def test_with_noise_every_answer_gives_the_slices_back(made, tmp_path):
    config = {**SETTINGS, "translate": {"noise": True}}
    (tmp_path / "tiny.yaml").write_text(
        yaml.safe_dump({"steps": ["index", "train"], "config": config})
    )
    run_pipeline(
        str(tmp_path / "tiny.yaml"), [f"out={tmp_path / 'out'}", f"data.source={made.source}"]
    )
    found = medgan.load(tmp_path / "out" / "model").translate(thick(), answers=3)
    assert found.answers == 3
    assert found.spread["image"].data.max() > 0
    slices = coarse_scan(thick(), (2.0, 2.0, 2.0))
    for image in (found.images["image"], found.answer["image"]):
        assert np.abs(slices.acquisition.degrade(image.data) - slices.data).max() < 1e-2


@pytest.mark.parametrize(
    ("mm", "message"), [(2.0, "no axis that is coarser"), (24.0, "12.0 times")]
)
def test_a_scan_that_is_not_thick_or_far_too_thick_is_refused(made, mm, message):
    data = ball(np.random.default_rng(0), (16, 16, 16)).astype(np.float32)
    scan = Volume(data, np.diag([2.0, 2.0, mm, 1.0]))
    with pytest.raises(DataError, match="E_COARSE") as error:
        medgan.load(made.model).translate(scan)
    assert message in str(error.value)


def test_the_verb_writes_fine_scans_and_pictures(made, tmp_path):
    (tmp_path / "new").mkdir()
    thick("LPS").save(tmp_path / "new" / "Jane_Doe.nii.gz")
    done = inside("translate", made.model, tmp_path / "new", "-o", tmp_path / "t", "--json")
    assert done.returncode == 0, done.stderr
    (image,) = (tmp_path / "t/images").iterdir()
    assert nibabel.load(image).shape == (24, 24, 24)
    assert b"SYNTHETIC" in nibabel.load(image).header["descrip"].tobytes()
    assert len(list((tmp_path / "t/pictures").iterdir())) == 1
    assert json.loads((tmp_path / "t/translations.json").read_text())["task"] == "super_resolution"


def test_scans_of_a_bids_tree_are_found_by_whatever_suffix_they_have(made, tmp_path):
    folder = tmp_path / "bids" / "sub-01" / "anat"
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "dataset_description.json").write_text(
        '{"Name": "x", "BIDSVersion": "1.9"}'
    )
    thick().save(folder / "sub-01_T1w.nii.gz")
    done = inside("translate", made.model, tmp_path / "bids", "-o", tmp_path / "t", "--json")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "t/images").iterdir())) == 1


@pytest.mark.slow
def test_the_benchmark_compares_with_interpolation_and_another_model(made, tmp_path):
    done = inside(
        *("bench", "super-resolution", made.model, "--data", made.source, "-o", tmp_path / "b"),
        *("--set", f"resolution.others={{same: {made.model}}}"),
        *("--set", "resolution.factors=[2, 3]"),
        *("--set", "data.splits=" + str(splits(made, tmp_path)), "--json"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "b/super_resolution.json").read_text())
    rows = {(row["factor"], row["method"]): row for row in report["rows"]}
    assert {factor for factor, _ in rows} == {2.0, 3.0}
    assert is_drawn(tmp_path / "b/super_resolution.png")
    for factor in (2.0, 3.0):
        ours, same, cubic, exact = (
            rows[factor, name]["metrics"] for name in ("model", "same", "cubic", "cubic, projected")
        )
        assert ours == same
        difference = rows[factor, "same"]["ours_minus"]["psnr"]
        assert (difference["value"], difference["p_value"]) == (0, 1)
        for one in (ours, exact):
            assert one["consistency"]["value"] < 1e-4 < cubic["consistency"]["value"]
        assert exact["psnr"]["value"] > cubic["psnr"]["value"]
        assert exact["sharpness"]["value"] > cubic["sharpness"]["value"]
        assert 0 <= ours["dice"]["value"] <= 1
        assert 0.3 < cubic["contrast"]["value"] < exact["contrast"]["value"] < 1.2
    assert report["protocol"]["test_scans"] >= 5
    assert "| 3 | model |" in report["table"]


def splits(made, tmp_path):
    """The training scans of the model, and others to test on."""
    known = [one.name.removesuffix(".nii.gz") for one in sorted(made.source.glob("*[0-9].nii.gz"))]
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"train": known[:12], "test": known[12:]}))
    return path


def test_the_benchmark_refuses_models_of_other_tasks(made, tmp_path):
    from medgan.core.config import ResolutionConfig
    from medgan.studies.super_resolution.benchmark import run_super_resolution

    settings, model = ResolutionConfig(), medgan.load(made.model)
    with pytest.raises(ModelError, match="E_TRANSLATOR"):
        run_super_resolution({"model": make_model()}, None, tmp_path, settings)
    other = medgan.load(made.model)
    other.preprocessing = other.preprocessing.model_copy(update={"spacing": (1, 1, 1)})
    with pytest.raises(ConfigError, match="E_GRID"):
        run_super_resolution({"model": model, "other": other}, None, tmp_path, settings)
