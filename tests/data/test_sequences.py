"""Scans over time: 4D files and folders of phases."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan.core.errors import DataError
from medgan.core.volume import SYNTHETIC, Volume, save_frames
from medgan.data.index import index
from medgan.data.manifest import Manifest, Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.sequences import summary
from medgan.data.splits import with_drawn_splits
from tests.kit.command_line import inside

PSEUDONYMS = Pseudonyms(b"s" * 32)


def voxels(seed: int, phases: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 999, (4, 5, 6, phases)).astype(np.int16)


def sequence(path: Path, data: np.ndarray, unit: str = "msec", step: float = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(data, np.diag([2.0, 2, 3, 1]))
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = step
    nibabel.save(image, path)
    return path


def indexed(source: Path, tmp_path: Path) -> Manifest:
    return index(source, PSEUDONYMS, converted=tmp_path / "run" / "dicom")[0]


def test_a_4d_file_becomes_a_scan_for_each_phase_with_its_place_and_its_seconds(tmp_path: Path):
    data = voxels(0)
    sequence(tmp_path / "data" / "heart.nii.gz", data)
    manifest, key = index(tmp_path / "data", PSEUDONYMS, converted=tmp_path / "run" / "dicom")
    assert manifest.refusals == ()
    assert [case.covariates for case in manifest.cases] == [
        {"phase": f"{n / 5:g}", "time": f"{0.05 * n:g}"} for n in range(5)
    ]
    assert len({case.subject for case in manifest.cases}) == 1
    assert {case.sequence for case in manifest.cases} == {PSEUDONYMS.case("heart")}
    for number, case in enumerate(manifest.cases):
        volume = Volume.load(case.image)
        np.testing.assert_array_equal(volume.data, data[..., number])
        assert volume.spacing == pytest.approx((2, 2, 3))
        assert Path(case.image).stat().st_mode & 0o077 == 0
    assert {Path(path).name for _, _, path in key} == {"heart.nii.gz"}
    assert len(key) == 5


def test_sequences_are_described_by_their_subjects_phases_and_steps(tmp_path: Path):
    sequence(tmp_path / "data" / "a.nii.gz", voxels(0), "msec", 50)
    sequence(tmp_path / "data" / "b.nii.gz", voxels(1, 4), "sec", 0.04)
    found = summary(indexed(tmp_path / "data", tmp_path).cases)
    assert found is not None
    assert found.text == "2 subjects, 2 sequences of 4 to 5 phases, 0.04 to 0.05 s apart"
    done = inside("check", tmp_path / "data", "-o", tmp_path / "check")
    assert f"sequences {found.text}" in done.stdout


def test_no_split_divides_the_phases_of_a_subject_and_a_manifest_keeps_their_sequence(
    tmp_path: Path,
):
    for number in range(8):
        sequence(tmp_path / "data" / f"{number}.nii.gz", voxels(number, 3))
    drawn = with_drawn_splits(indexed(tmp_path / "data", tmp_path), (0.4, 0.2, 0.2, 0.2), 0)
    splits = {case.sequence: case.split for case in drawn.cases}
    assert all(splits[case.sequence] == case.split for case in drawn.cases)
    assert set(splits.values()) == {"train", "validation", "calibration", "test"}
    drawn.save(tmp_path / "manifest.json")
    again = indexed(tmp_path / "manifest.json", tmp_path)
    assert again.cases == drawn.cases


def test_a_fourth_axis_without_a_unit_of_time_is_no_sequence(tmp_path: Path):
    sequence(tmp_path / "data" / "channels.nii.gz", voxels(0), "unknown")
    sequence(tmp_path / "data" / "spectrum.nii.gz", voxels(1), "hz")
    found = indexed_refusals(tmp_path)
    assert [(r.code, "unit of time" in r.remedy) for r in found] == [("E_DIMENSIONS", True)] * 2


def indexed_refusals(tmp_path: Path) -> tuple[Refusal, ...]:
    sequence(tmp_path / "data" / "sound.nii.gz", voxels(9))
    return indexed(tmp_path / "data", tmp_path).refusals


def test_an_empty_label_map_of_a_phase_is_none_where_others_are_outlined(tmp_path: Path):
    sequence(tmp_path / "data" / "heart.nii.gz", voxels(0))
    label = np.zeros((4, 5, 6, 5), np.uint8)
    label[1:3, 1:3, 1:3, 2] = 1
    sequence(tmp_path / "data" / "heart_label.nii.gz", label)
    cases = indexed(tmp_path / "data", tmp_path).cases
    assert [case.label is not None for case in cases] == [False, False, True, False, False]
    assert cases[2].label_mm3 == (8 * 12.0,)


def test_a_label_map_of_other_phases_refuses_the_sequence(tmp_path: Path):
    sequence(tmp_path / "data" / "heart.nii.gz", voxels(0))
    sequence(tmp_path / "data" / "heart_label.nii.gz", np.ones((4, 5, 6, 3), np.uint8))
    assert [r.code for r in indexed_refusals(tmp_path)] == ["E_SEQUENCE"]


def test_phases_of_a_synthetic_sequence_stay_synthetic(tmp_path: Path):
    frames = [Volume(voxels(0)[..., n], np.eye(4)) for n in range(3)]
    save_frames(frames, tmp_path / "data" / "made.nii.gz", description=SYNTHETIC)
    assert all(case.synthetic for case in indexed(tmp_path / "data", tmp_path).cases)


def test_where_nothing_is_converted_a_sequence_is_refused_with_a_remedy(tmp_path: Path):
    path = sequence(tmp_path / "heart.nii.gz", voxels(0))
    with pytest.raises(DataError, match=r"E_SEQUENCE.*5 volumes") as error:
        Volume.load(path)
    assert "medgan check" in error.value.remedy
    assert [r.code for r in index(path, PSEUDONYMS)[0].refusals] == ["E_SEQUENCE"]


@pytest.mark.parametrize(
    "names",
    [
        ["phase_00", "phase_10", "phase_90"],
        ["case1_T00", "case1_T10", "case1_T50"],
        ["frame1", "frame2", "frame10"],
        ["4dct-bin0-ct", "4dct-bin3-ct", "4dct-bin11-ct"],
    ],
)
def test_files_of_a_subject_that_differ_by_a_phase_are_a_sequence_in_order(
    tmp_path: Path, names: list[str]
):
    for subject in ("anna", "berta"):
        for number, name in enumerate(names):
            path = tmp_path / "data" / subject / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = voxels(number, 1)[..., 0] + (subject == "anna")
            nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    cases = indexed(tmp_path / "data", tmp_path).cases
    found = summary(cases)
    assert found is not None
    assert found.text == "2 subjects, 2 sequences of 3 phases, their times unknown"
    by_subject = {
        case.subject: [c.covariates["phase"] for c in cases if c.subject == case.subject]
        for case in cases
    }
    assert all(sorted(phases) == ["0", "0.333333", "0.666667"] for phases in by_subject.values())
    last = next(c for c in cases if c.covariates["phase"] == "0.666667")
    assert Volume.load(last.image).data.max() <= voxels(2).max() + 1
    assert names[-1] in last.image


def test_contrasts_and_visits_are_no_phases(tmp_path: Path):
    for number, name in enumerate(["t1", "t2", "visit1", "visit2", "scan_01", "scan_02"]):
        subject = "ben" if name == "t2" else "anna"  # t1 and t2 of one would be channels
        path = tmp_path / "data" / subject / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels(number, 1)[..., 0], np.eye(4)), path)
    cases = indexed(tmp_path / "data", tmp_path).cases
    assert len(cases) == 6
    assert summary(cases) is None


def test_phases_in_a_flat_folder_are_of_one_subject(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for number in range(6):
        path = tmp_path / "data" / f"p{number // 3}_frame{number % 3}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels(number, 1)[..., 0], np.eye(4)), path)
    found = summary(indexed(tmp_path / "data", tmp_path).cases)
    assert found is not None
    assert (found.subjects, found.sequences) == (2, 2)


def test_a_column_phase_of_a_table_makes_sequences_of_subjects(tmp_path: Path):
    rows = ["image,subject,phase"]
    for number in range(4):
        nibabel.save(
            nibabel.Nifti1Image(voxels(number, 1)[..., 0], np.eye(4)), tmp_path / f"{number}.nii"
        )
        rows.append(f"{number}.nii,{'ab'[number // 2]},{number % 2 / 2}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    found = summary(indexed(tmp_path / "table.csv", tmp_path).cases)
    assert found is not None
    assert (found.subjects, found.phases) == (2, (2, 2))
