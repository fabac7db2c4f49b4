"""Several image channels of one subject are one case."""

from pathlib import Path

import numpy as np
import pytest

from medgan.core.config import DataConfig
from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.plan import plan
from medgan.data.pseudonyms import Pseudonyms

PSEUDONYMS = Pseudonyms(b"salt")


def scan(path: Path, seed: int, shift: float = 0.0, shape: tuple[int, int, int] = (8, 9, 10)):
    affine = np.eye(4)
    affine[0, 3] = shift
    values = np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)
    Volume(values, affine).save(path)
    return path


def bids(folder: Path, **shifts: float) -> Path:
    for number in (1, 2):
        anat = folder / f"sub-0{number}" / "anat"
        scan(anat / f"sub-0{number}_T1w.nii.gz", number)
        scan(anat / f"sub-0{number}_T2w.nii.gz", 10 + number, shifts.get(f"sub0{number}", 0))
    (folder / "dataset_description.json").write_text("{}")
    return folder


def test_two_suffixes_of_a_bids_tree_are_two_channels_of_one_case(tmp_path):
    manifest, key = index(bids(tmp_path), PSEUDONYMS, channels=["T2w", "T1w"])
    assert not manifest.refusals
    assert len(manifest.cases) == 2
    for case in manifest.cases:
        assert list(case.images) == ["T2w", "T1w"]
        assert case.image.endswith("_T2w.nii.gz")
        assert len(set(case.hashes.values())) == 2
    assert manifest.channels == ("T2w", "T1w")
    assert len(key) == 4  # each file leads back to its case
    assert len({subject for _, subject, _ in key}) == 2
    assert plan(DataConfig(), manifest.cases).channels == ("T2w", "T1w")


def test_ct_and_pet_of_a_bids_tree_are_channels_with_the_mask_of_a_derivative(tmp_path, caplog):
    tree = tmp_path / "tree"
    for number, name in enumerate(("sub-01", "sub-02")):
        scan(tree / name / "anat" / f"{name}_T1w.nii.gz", number)
        scan(tree / name / "ct" / f"{name}_ct.nii.gz", 10 + number)
        scan(tree / name / "pet" / f"{name}_trc-FDG_pet.nii.gz", 20 + number)
    folder = tree / "derivatives" / "gtv" / "sub-01"
    mask = Volume(np.eye(8, 9, dtype=np.uint8)[..., None].repeat(10, axis=2), np.eye(4))
    mask.save(folder / "sub-01_label-GTV_mask.nii.gz")
    (tree / "dataset_description.json").write_text("{}")

    def read(*channels):
        return index(tree, PSEUDONYMS, channels=channels)[0].cases

    for channels in (["T1w", "ct", "pet"], ["trc-FDG_pet", "ct"], ["pet"]):
        first, second = read(*channels)
        assert [Path(path).name.split("_")[-1] for path in first.images.values()] == [
            f"{channel.split('_')[-1]}.nii.gz" for channel in channels
        ]
        assert first.labels == (1,)
        assert second.label is None
    (case,) = {case.image for case in index(tree, PSEUDONYMS)[0].cases if case.label}
    assert case.endswith("_T1w.nii.gz")  # without a suffix as ever: what lies in anat
    assert not caplog.records
    mask.save(folder / "sub-01_label-edema_mask.nii.gz")
    assert not any(case.label for case in read("ct"))
    assert "several masks" in caplog.text


@pytest.mark.fault(3)
def test_a_manifest_keeps_channels_and_their_hashes(tmp_path):
    manifest, _ = index(bids(tmp_path / "in"), PSEUDONYMS, channels=["T1w", "T2w"])
    manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == manifest
    again, _ = index(tmp_path / "manifest.json", PSEUDONYMS)
    assert again.cases == manifest.cases
    scan(Path(manifest.cases[0].images["T2w"]), 99)
    again, _ = index(tmp_path / "manifest.json", PSEUDONYMS)
    assert [r.code for r in again.refusals] == ["E_MANIFEST"]


def test_a_case_without_one_channel_is_refused_by_pseudonym(tmp_path):
    (bids(tmp_path) / "sub-02/anat/sub-02_T2w.nii.gz").unlink()
    manifest, key = index(tmp_path, PSEUDONYMS, channels=["T1w", "T2w"])
    assert len(manifest.cases) == 1
    (refusal,) = manifest.refusals
    assert (refusal.code, refusal.what) == ("E_CHANNEL", "no T2w")
    assert refusal.case in {case for case, _, _ in key}
    assert "sub-02" not in str(refusal)


@pytest.mark.parametrize("shift", [1.0, 0.2])
def test_channels_on_different_grids_are_refused(tmp_path, shift):
    manifest, _ = index(bids(tmp_path, sub02=shift), PSEUDONYMS, channels=["T1w", "T2w"])
    (refusal,) = manifest.refusals
    assert refusal.code == "E_CHANNEL_GRID"
    assert refusal.what == "T2w and T1w lie on different grids"


def test_columns_of_a_table_are_channels(tmp_path):
    for number, name in enumerate("abc"):
        scan(tmp_path / f"{name}_t1.nii.gz", number)
    for number, name in enumerate("ab"):
        scan(tmp_path / f"{name}_t2.nii.gz", 10 + number)
    rows = ["subject,T1,T2,age"] + [f"{n},{n}_t1.nii.gz,{n}_t2.nii.gz,7" for n in "ab"]
    (tmp_path / "list.csv").write_text("\n".join([*rows, "c,c_t1.nii.gz,,7"]))
    manifest, _ = index(tmp_path / "list.csv", PSEUDONYMS, channels=["T1", "T2"])
    assert [list(case.images) for case in manifest.cases] == [["T1", "T2"]] * 2
    assert [case.covariates for case in manifest.cases] == [{"age": "7"}] * 2
    assert [refusal.code for refusal in manifest.refusals] == ["E_CHANNEL"]


def test_loose_files_have_one_channel_by_whatever_name(tmp_path):
    scan(tmp_path / "a.nii.gz", 1)
    manifest, _ = index(tmp_path, PSEUDONYMS, channels=["T1w"])
    assert manifest.channels == ("T1w",)
    with pytest.raises(DataError, match=r"E_CHANNEL.*CSV with a column for each channel"):
        index(tmp_path, PSEUDONYMS, channels=["T1w", "T2w"])
