"""A healthy brain as DICOM, scored by a shipped model, and its results as DICOM again."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan.core.volume import Volume
from medgan.data.dicom.synthetic import write_synthetic_series
from tests.kit.command_line import inside

ROOT = Path(__file__).parents[3]


def series_with_a_lesion(scan, folder):
    """A scan as a DICOM series of a patient, with a dark ball of 28 mm in it."""
    data = scan.data.copy()
    centre = np.array(data.shape) // 2 + (14, 0, 6)
    away = np.indices(data.shape) - centre[:, None, None, None]
    data[(away**2).sum(axis=0) < 7**2] = 20
    write_synthetic_series(Volume(data, scan.affine), folder, "MR", "of a test")
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        ds.PatientID, ds.PatientName = "ZQ4711", "ZQNAME^MAX"
        ds.save_as(path)


@pytest.mark.data
def test_map_and_regions_of_a_comparable_scan_lie_where_those_in_nifti_do(real_data, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    sitk = pytest.importorskip("SimpleITK")
    subjects = json.loads((real_data / "splits.json").read_text())["ixi_brain_2mm"]["test"]
    (scan,) = (real_data / "ixi_brain_2mm" / subjects[0]).rglob("*_T1w.nii.gz")
    series_with_a_lesion(Volume.load(scan).canonical(), tmp_path / "in")
    done = inside("score", ROOT / "zoo" / "ixi-brain", tmp_path / "in", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "run" / "scores.json").read_text())["scans"]
    assert row["comparable"], row["explanation"]
    out = tmp_path / "out"
    done = inside("export-dicom", tmp_path / "run", "--source", tmp_path / "in", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "ZQ" not in done.stdout + done.stderr
    made = out / row["case"]

    heat = Volume.load(tmp_path / "run" / row["map"])
    regions = Volume.load(tmp_path / "run" / row["regions"])
    assert regions.data.any()
    lps = np.diag([-1.0, -1, 1, 1])
    peak = np.unravel_index(heat.data.argmax(), heat.data.shape)
    there = (lps @ heat.affine @ [*peak, 1])[:3]

    found = highdicom.pm.ParametricMap.from_file(made / "map.dcm").get_volume(dtype=np.float32)
    index = np.unravel_index(found.array.argmax(), found.array.shape)
    np.testing.assert_allclose((found.affine @ [*index, 1])[:3], there, atol=1e-3)
    assert found.array.max() == heat.data.max()
    stack = pydicom.dcmread(made / "map.dcm").pixel_array
    np.testing.assert_array_equal(np.sort(stack, None), np.sort(heat.data, None))

    segments = highdicom.seg.segread(made / "regions.dcm")
    volume = segments.get_volume(combine_segments=True, allow_missing_positions=True)
    marked = np.argwhere(volume.array > 0)
    places = marked @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    back = np.linalg.inv(lps @ regions.affine)
    voxels = np.rint(places @ back[:3, :3].T + back[:3, 3]).astype(int)
    again = np.zeros(regions.data.shape, int)
    again[tuple(voxels.T)] = volume.array[tuple(marked.T)]
    np.testing.assert_array_equal(again, regions.data)  # Dice 1, region by region
    for name in ("map", "regions", "summary"):
        ds = pydicom.dcmread(made / f"{name}.dcm")
        assert (ds.PatientID, str(ds.PatientName)) == ("ZQ4711", "ZQNAME^MAX")
        if name != "map":  # GDCM, its reader, knows no pixels in floating point
            image = sitk.GetArrayFromImage(sitk.ReadImage(str(made / f"{name}.dcm")))
            np.testing.assert_array_equal(image.squeeze() > 0, ds.pixel_array.squeeze() > 0)
