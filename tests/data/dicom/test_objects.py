"""Results as DICOM objects: opened again, compared with the grid they were made on."""

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medgan.core.errors import DataError
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.geometry import TO_RAS, stack_slices
from medgan.data.dicom.objects import (
    map_object,
    regions_object,
    save_private,
    summary_object,
)
from medgan.data.dicom.sources import Source
from medgan.data.layouts.layouts import list_scans
from tests.kit.dicom import PLANTED, indexed, make_enhanced, make_series, oblique, save

MODEL = {"medgan": "0.1.0", "data_digest": "1234"}
LEVEL = 3.0


def source_of(folder):
    with Conversion(folder) as conversion:
        (one,) = [s for listed in list_scans(folder) for s in conversion.expand(listed)]
    return Source.read(stack_slices(one.series, "c-1"), "c-1")


def shape_of(source):
    first = source.stack.frames[0]
    return first.columns, first.rows, len(source.stack.frames)


def results(shape):
    rng = np.random.default_rng(1)
    regions = np.zeros(shape, np.int16)
    regions[3:9, 4:12, 2:4] = 1
    regions[20:24, 30:33, 5:6] = 2
    return rng.normal(0, 2, shape).astype(np.float32), regions


def enhanced(**tags):
    """Frames in an order that is not that of their places."""
    ds = make_enhanced("MR", cosines=oblique(), **tags)
    each = list(ds.PerFrameFunctionalGroupsSequence)
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    ds.PerFrameFunctionalGroupsSequence = Sequence([each[n] for n in order])
    return [ds]


SERIES = {
    "CT": lambda: make_series("CT", cosines=oblique(), **PLANTED),
    "enhanced MR": lambda: enhanced(**PLANTED),
}


@pytest.fixture(scope="module", params=SERIES)
def made(request, tmp_path_factory):
    """The files of a series, what is known of it, and its objects as they lie on disk."""
    folder = tmp_path_factory.mktemp("series")
    source = source_of(save(SERIES[request.param](), folder))
    score_map, regions = results(shape_of(source))
    picture = np.random.default_rng(2).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    out = tmp_path_factory.mktemp("objects")
    save_private(map_object(source, score_map, LEVEL, MODEL), out / "map.dcm")
    save_private(regions_object(source, regions, MODEL), out / "regions.dcm")
    save_private(summary_object(source, picture, MODEL), out / "summary.dcm")
    return folder, source, out, (score_map, regions, picture)


def voxels_in_place(volume, affine, shape, step=1):
    """A highdicom volume's values at the places of a NIfTI grid's voxels, every so many."""
    ras = np.diag([*np.diag(TO_RAS), 1.0]) @ volume.affine
    ranges = [np.arange(0, n, step) for n in shape]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)
    world = grid @ affine[:3, :3].T + affine[:3, 3]
    back = np.linalg.inv(ras)
    index = world @ back[:3, :3].T + back[:3, 3]
    whole = np.rint(index).astype(int)
    off = (index - whole) @ ras[:3, :3].T
    assert np.abs(off).max() < 1e-3  # mm
    return volume.array[tuple(np.moveaxis(whole, -1, 0))]


def test_a_map_opens_with_the_voxels_and_places_of_the_nifti_map(made):
    _, source, out, (score_map, _, _) = made
    found = highdicom.pm.ParametricMap.from_file(out / "map.dcm")
    volume = found.get_volume(apply_real_world_transform=True, dtype=np.float32)
    placed = voxels_in_place(volume, source.stack.affine, score_map.shape)
    np.testing.assert_array_equal(placed, score_map)
    (mapping,) = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "{SD}"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Z-score"
    assert found.ContentQualification == "RESEARCH"


def test_regions_open_as_segments_on_their_voxels(made):
    _, source, out, (_, regions, _) = made
    found = highdicom.seg.segread(out / "regions.dcm")
    volume = found.get_volume(combine_segments=True, allow_missing_positions=True)
    # Slices without a region are left out: the volume covers the others.
    full = np.zeros(regions.shape, np.int16)
    used = np.flatnonzero(regions.any(axis=(0, 1)))
    affine = source.stack.affine.copy()
    affine[:3, 3] += used[0] * affine[:3, 2]
    shape = (*regions.shape[:2], used[-1] - used[0] + 1)
    full[:, :, used[0] : used[-1] + 1] = voxels_in_place(volume, affine, shape)
    np.testing.assert_array_equal(full, regions)
    assert list(found.segment_numbers) == [1, 2]
    segment = found.get_segment_description(2)
    assert segment.SegmentLabel == "unusual region 2"
    assert segment.segmented_property_type.meaning == "Selected region"
    assert segment.algorithm_type.value == "AUTOMATIC"
    assert segment.algorithm_identification[0].AlgorithmName == "medgan"


def test_every_frame_points_at_the_slice_that_lies_there(made):
    folder, _, out, _ = made
    files = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, sorted(folder.iterdir()))}
    for name in ("map", "regions"):
        ds = pydicom.dcmread(out / f"{name}.dcm")
        for frame in ds.PerFrameFunctionalGroupsSequence:
            (item,) = frame.DerivationImageSequence[0].SourceImageSequence
            file = files[item.ReferencedSOPInstanceUID]
            assert item.ReferencedSOPClassUID == file.SOPClassUID
            there = file
            if "NumberOfFrames" in file:
                groups = file.PerFrameFunctionalGroupsSequence
                there = groups[item.ReferencedFrameNumber - 1].PlanePositionSequence[0]
            place = frame.PlanePositionSequence[0].ImagePositionPatient
            np.testing.assert_allclose(place, there.ImagePositionPatient, atol=1e-6)
        (series,) = ds.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == next(iter(files.values())).SeriesInstanceUID
        named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
        assert sorted(named) == sorted(files)
    items = pydicom.dcmread(out / "summary.dcm").SourceImageSequence
    assert sorted(item.ReferencedSOPInstanceUID for item in items) == sorted(files)


def test_objects_belong_to_the_patient_and_study_and_have_uids_of_their_own(made):
    folder, _, out, (_, _, picture) = made
    one = pydicom.dcmread(next(folder.iterdir()))
    uids = {one.SOPInstanceUID, one.SeriesInstanceUID}
    for name in ("map", "regions", "summary"):
        ds = pydicom.dcmread(out / f"{name}.dcm")
        for tag in ("PatientID", "PatientName", "PatientBirthDate", "IssuerOfPatientID",
                    "StudyInstanceUID", "StudyDate", "AccessionNumber", "StudyDescription",
                    "ReferringPhysicianName"):  # fmt: skip
            assert ds[tag].value == one[tag].value
        assert "research use only" in ds.SeriesDescription
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        assert not uids & {ds.SOPInstanceUID, ds.SeriesInstanceUID}
        uids |= {ds.SOPInstanceUID, ds.SeriesInstanceUID}
        for tag in ("PatientComments", "InstitutionName", "StationName", "ProtocolName"):
            assert tag not in ds
    summary = pydicom.dcmread(out / "summary.dcm")
    assert summary.BurnedInAnnotation == "YES"
    np.testing.assert_array_equal(summary.pixel_array, picture)
    assert pydicom.dcmread(out / "map.dcm").BurnedInAnnotation == "NO"


def test_medgan_sets_its_own_objects_aside(made, tmp_path):
    _, _, out, _ = made
    found = indexed(out, tmp_path)
    assert not found.cases
    assert not found.refusals
    assert {row.code for row in found.series} == {"E_OBJECT"}


def test_names_in_other_alphabets_and_odd_headers_are_carried_over_and_never_logged(
    tmp_path, caplog, capsys
):
    series = make_series("MR", PatientSex="", StudyDate="")
    for ds in series:
        ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        ds.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
        ds.PatientID = "ZQ^4711"
        ds.add_new("PatientSex", "CS", "WEIBLICH")
        ds.PatientBirthDate = "19700101"
        del ds.StudyDate
        ds.add_new("SeriesNumber", "IS", None)
        ds["SeriesNumber"]._value = "three"
    source = source_of(save(series, tmp_path / "in"))
    source.header["PatientBirthDate"]._value = "1.1.70"
    out = tmp_path / "map.dcm"
    save_private(map_object(source, results(shape_of(source))[0], LEVEL, MODEL), out)
    found = pydicom.dcmread(out)
    assert str(found.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert found.PatientSex == "WEIBLICH"
    assert found.PatientBirthDate == "1.1.70"
    assert found.StudyDate == ""
    said = caplog.text + "".join(capsys.readouterr())
    assert not any(text in said for text in ("Yamada", "ZQ", "WEIBLICH", "1.1.70"))


def test_a_patient_whose_identity_was_removed_stays_marked(tmp_path):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic"
    series = make_series(
        "MR", PatientIdentityRemoved="YES", DeidentificationMethodCodeSequence=Sequence([code])
    )
    source = source_of(save(series, tmp_path))
    picture = np.zeros((8, 8, 3), np.uint8)
    made = summary_object(source, picture, MODEL)
    assert made.PatientIdentityRemoved == "YES"
    assert made.DeidentificationMethodCodeSequence[0].CodeValue == "113100"


def test_an_uneven_stack_lies_where_its_nifti_does_and_keeps_its_references(tmp_path):
    series = make_series("MR")
    series[3].ImagePositionPatient[2] += 0.2  # of 2.5 mm; evened out
    source = source_of(save(series, tmp_path))
    made = map_object(source, results(shape_of(source))[0], LEVEL, MODEL)
    named = {
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID: frame
        for frame in made.PerFrameFunctionalGroupsSequence
    }
    for number, ds in enumerate(series):
        place = named[ds.SOPInstanceUID].PlanePositionSequence[0].ImagePositionPatient
        ras = (source.stack.affine @ (0, 0, number, 1))[:3]
        np.testing.assert_allclose(place, np.diag(TO_RAS) * ras, atol=1e-6)


def test_a_series_without_a_study_cannot_be_filed_and_is_refused(tmp_path):
    series = make_series("MR", PatientName="ZQNAME")
    for ds in series:
        del ds.StudyInstanceUID
    source = source_of(save(series, tmp_path))
    with pytest.raises(DataError, match="E_EXPORT c-1") as refused:
        map_object(source, results(shape_of(source))[0], LEVEL, MODEL)
    assert "ZQ" not in str(refused.value)


@pytest.mark.data
@pytest.mark.parametrize("name", ["head_mr_hfp", "chest_ct_b70f"])
def test_maps_of_real_series_lie_on_their_grid(real_data, tmp_path, name):
    source = source_of(real_data / "dicom" / name)
    score_map, regions = results(shape_of(source))
    for kind, made in (
        ("map", map_object(source, score_map, LEVEL, MODEL)),
        ("regions", regions_object(source, regions, MODEL)),
    ):
        save_private(made, tmp_path / f"{kind}.dcm")
    found = highdicom.pm.ParametricMap.from_file(tmp_path / "map.dcm")
    volume = found.get_volume(dtype=np.float32)
    placed = voxels_in_place(volume, source.stack.affine, score_map.shape, 3)
    np.testing.assert_array_equal(placed, score_map[::3, ::3, ::3])
    segments = highdicom.seg.segread(tmp_path / "regions.dcm")
    assert int(segments.pixel_array.sum()) == int((regions > 0).sum())
