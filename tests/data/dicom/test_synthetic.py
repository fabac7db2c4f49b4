"""Synthetic volumes as DICOM: an independent reader sees the same grid, and nobody's name."""

import numpy as np
import pydicom
import pytest
import SimpleITK

from medgan.core.volume import Volume
from medgan.data.dicom.synthetic import write_synthetic_series
from tests.kit.dicom import indexed

MARK = "SYNTHETIC, not a patient"


RANGES = {"MR": (0, 1500), "CT": (-1024, 1500), "PT": (0, 25)}
STEPS = {"MR": 1, "CT": 1, "PT": 1e-3}


@pytest.fixture(params=["MR", "CT", "PT"])
def written(request, tmp_path):
    ends = RANGES[request.param]
    data = np.random.default_rng(0).uniform(*ends, (12, 16, 10)).astype(np.float32)
    affine = np.array([[2.5, 0, 0, -11], [0, 3, 0.0, 7], [0, 0, 3.5, -40], [0, 0, 0, 1]])
    write_synthetic_series(Volume(data, affine), tmp_path / "s", request.param, MARK)
    return tmp_path / "s", data, affine, request.param


def test_simpleitk_reads_the_voxels_where_they_were(written):
    folder, data, affine, modality = written
    step = STEPS[modality]
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    assert image.GetSize() == data.shape
    for index in np.random.default_rng(1).integers(0, data.shape, (50, 3)).tolist():
        world = (affine @ (*index, 1))[:3] * (-1, -1, 1)
        place = image.TransformPhysicalPointToContinuousIndex(world.tolist())
        whole = [round(value) for value in place]
        np.testing.assert_allclose(place, whole, atol=1e-4)
        expected = round(float(data[tuple(index)]) / step) * step
        assert image.GetPixel(whole) == pytest.approx(expected)


def test_every_file_is_of_nobody_and_says_that_it_is_synthetic(written):
    folder, data, _, modality = written
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(slices) == data.shape[2]
    assert len({ds.SOPInstanceUID for ds in slices}) == len(slices)
    for ds in slices:
        assert not [e for e in ds if e.tag.group == 0x0010 and e.value not in ("", None)]
        assert ds.ImageType[:2] == ["DERIVED", "PRIMARY" if modality == "PT" else "SECONDARY"]
        assert ds.SyntheticData == "YES"
        assert ds.SeriesDescription == ds.StudyDescription == MARK
        assert ds.Modality == modality


def test_studies_are_new_each_time_and_medgan_sets_them_aside(written, tmp_path):
    folder, data, affine, modality = written
    write_synthetic_series(Volume(data, affine), tmp_path / "again", modality, MARK)
    first, again = (pydicom.dcmread(f / "slice-0001.dcm") for f in (folder, tmp_path / "again"))
    assert first.StudyInstanceUID != again.StudyInstanceUID
    assert first.SeriesInstanceUID != again.SeriesInstanceUID
    (row,) = indexed(folder, tmp_path).series
    assert row.code == ("E_OBJECT" if modality == "PT" else "E_DERIVED")
