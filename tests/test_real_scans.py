"""On the real scans that MEDGAN_DATA names; skipped, saying so, where there are none."""

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, ornt_transform

from medgan.app.pipeline_files import read_pipeline
from medgan.core.config import ModelConfig, Preprocessing, build
from medgan.data.batches import PreparedVolumes
from medgan.data.index import index
from medgan.data.plan import plan
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import SPLITS, read_splits, with_given_splits
from medgan.model.fresh_networks import synthesis_networks
from medgan.model.model import Model
from medgan.networks.metrics import dark_share

pytestmark = pytest.mark.data
ORIENTATIONS = ("RAS", "LAS", "LPS", "RPI", "PSR", "AIL", "SRA", "ILP")
PSEUDONYMS = Pseudonyms(b"test")


@pytest.fixture(scope="module")
def hippocampi(real_data):
    return real_data / "msd_hippocampus"


@pytest.fixture(scope="module")
def model(hippocampi):
    """The preset's networks, untrained, calibrated on real scans."""
    config = build(read_pipeline("msd_hippocampus")[1])
    grid = Preprocessing(spacing=(1, 1, 1), shape=(32, 48, 32), labels=(1, 2))
    sizes = ModelConfig.model_validate(config.model.model_dump())
    torch.manual_seed(0)
    networks = synthesis_networks(grid, sizes, 2, 0)
    model = Model(networks, grid, sizes)
    model.calibrate(sorted((hippocampi / "imagesTr").glob("*.nii.gz"))[:6])
    return model


@pytest.fixture(scope="module")
def brains(real_data):
    """The manifest of all brains."""
    return index(real_data / "ixi_brain_2mm", PSEUDONYMS)[0]


def test_every_real_scan_is_accepted_and_the_splits_are_kept(real_data, hippocampi, brains):
    cases = ((index(hippocampi, PSEUDONYMS)[0], (1, 2)), (brains, ()))
    for name, (manifest, labels) in zip(("msd_hippocampus", "ixi_brain_2mm"), cases, strict=True):
        source = real_data / name
        assert not manifest.refusals
        splits = read_splits(real_data / "splits.json", source)
        manifest = with_given_splits(manifest, splits, PSEUDONYMS)
        wanted = json.loads((real_data / "splits.json").read_text())[name]
        got = {split: {case.subject for case in manifest.split(split)} for split in SPLITS}
        got["train"] |= got.pop("validation")  # taken from train, where the file has no list
        for split, subjects in wanted.items():
            assert got[split] == {PSEUDONYMS.subject(subject) for subject in subjects}
        config = build(read_pipeline(name)[1])
        assert plan(config.data, manifest.split("train")).labels == labels


@pytest.mark.fault(15)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(number=st.integers(0, 199), codes=st.sampled_from(ORIENTATIONS))
def test_storage_order_changes_no_bit_and_maps_overlay_their_scan(
    hippocampi, model, tmp_path, number, codes
):
    path = sorted((hippocampi / "imagesTr").glob("*.nii.gz"))[number]
    image = nibabel.load(path)
    turned_path = tmp_path / f"{codes}.nii.gz"
    axes = "".join(nibabel.aff2axcodes(image.affine))
    turn = ornt_transform(axcodes2ornt(axes), axcodes2ornt(codes))
    nibabel.save(image.as_reoriented(turn), turned_path)
    straight, turned = model.score(path), model.score(turned_path)
    assert straight.score == turned.score
    assert straight.p_value == turned.p_value
    at_world = _values_at_world(straight.score_map, 200)
    for position, value in at_world:
        voxel = np.linalg.inv(turned.score_map.affine) @ [*position, 1]
        index_ = tuple(np.round(voxel[:3]).astype(int))
        assert np.allclose(voxel[:3], index_, atol=1e-3)
        assert turned.score_map.data[index_] == value


def _values_at_world(volume, count):
    rng = np.random.default_rng(0)
    for voxel in rng.integers(0, volume.data.shape, (count, 3)):
        yield (volume.affine @ [*voxel, 1])[:3], volume.data[tuple(voxel)]


def test_every_layout_gives_the_same_scores_under_the_same_names(hippocampi, model, tmp_path):
    names = [p.name for p in sorted((hippocampi / "imagesTr").glob("*.nii.gz"))[10:13]]
    layouts = [_as_folder, _as_decathlon, _as_table, _as_bids]
    results = []
    for layout in layouts:
        source = layout(hippocampi, names, tmp_path / layout.__name__)
        manifest, _ = index(source, PSEUDONYMS)
        assert not manifest.refusals
        assert [case.labels for case in manifest.cases] == [(1, 2)] * 3
        results.append({case.sha256: model.score(case.image) for case in manifest.cases})
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for key, score in results[0].items():
            assert other[key].score == score.score
            assert np.array_equal(other[key].score_map.data, score.score_map.data)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _as_folder(data: Path, names: list[str], out: Path) -> Path:
    for name in names:
        _copy(data / "imagesTr" / name, out / name)
        _copy(data / "labelsTr" / name, out / name.replace(".nii", "_seg.nii"))
    return out


def _as_decathlon(data: Path, names: list[str], out: Path) -> Path:
    for name in names:
        for part in ("imagesTr", "labelsTr"):
            _copy(data / part / name, out / part / name)
    entries = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names]
    (out / "dataset.json").write_text(json.dumps({"training": entries}))
    return out


def _as_table(data: Path, names: list[str], out: Path) -> Path:
    out.mkdir(parents=True)
    with (out / "scans.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "site"))
        for n in names:
            writer.writerow((data / "imagesTr" / n, data / "labelsTr" / n, "A"))
    return out / "scans.csv"


def _as_bids(data: Path, names: list[str], out: Path) -> Path:
    for n in names:
        subject = f"sub-{n.split('_')[1].split('.')[0]}"
        folder = out / subject / "anat"
        _copy(data / "imagesTr" / n, folder / f"{subject}_T1w.nii.gz")
        _copy(data / "labelsTr" / n, folder / f"{subject}_dseg.nii.gz")
    (out / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    return out


def test_older_brains_have_a_larger_dark_share(brains, tmp_path):
    known = [case for case in brains.cases if case.covariates["age"] != "n/a"][::2]
    grid = Preprocessing(spacing=(4, 4, 4), shape=(48, 48, 48))
    prepared = PreparedVolumes(known, grid, tmp_path)
    shares = [float(dark_share(prepared[i][0][None])) for i in range(len(prepared))]
    ages = [float(case.covariates["age"]) for case in known]
    assert np.corrcoef(shares, ages)[0, 1] > 0.65
