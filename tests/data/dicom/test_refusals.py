"""Broken series are refused, each with its code; what is no scan is set aside; the rest goes on."""

import os
import shutil
import signal
import threading
from contextlib import closing
from itertools import product
from struct import pack

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medgan.core.errors import DataError
from medgan.data.dicom.decoder import Decoder
from medgan.data.dicom.files import PREAMBLE
from medgan.data.dicom.frames import DIRECTORY, read_frames
from medgan.data.dicom.voxels import read_voxels
from tests.kit.dicom import compress, indexed, make_enhanced, make_series, save
from tests.kit.nobody import open_folder, without_rights


def drop(*numbers):
    return lambda series: [ds for n, ds in enumerate(series) if n not in numbers]


def put(number=3, **tags):
    """Changes tags of one slice, or of all where the number is None."""

    def change(series):
        for n, ds in enumerate(series):
            for name, value in tags.items() if number in (n, None) else ():
                if value is None:
                    del ds[name]
                else:
                    setattr(ds, name, value)
        return series

    return change


def move(axis, by, of=slice(None)):
    """Moves slices along an axis by so many mm for each slice."""

    def change(series):
        for number, ds in list(enumerate(series))[of]:
            ds.ImagePositionPatient[axis] += by(number)
        return series

    return change


def twice(series):
    """The same places again, with other pixels."""
    again = make_series("MR", seed=1)
    for ds in again:
        ds.SeriesInstanceUID = series[0].SeriesInstanceUID
        ds.FrameOfReferenceUID = series[0].FrameOfReferenceUID
    return series + again


def in_two_versions(series):
    """As exports of two archives leave it: the same image UIDs, other bytes."""
    again = twice(series)[8:]
    for old, new in zip(series, again, strict=True):
        new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = old.SOPInstanceUID
    return series + again


def one_twice(series):
    return series + twice(series)[8 + 4 : 8 + 5]


def other_matrix(series):
    series[2].Rows, series[2].Columns = series[2].Columns, series[2].Rows
    return series


def cut(series):
    series[5].PixelData = series[5].PixelData[:-100]
    return series


def colours(series):
    for ds in series:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.PixelData = ds.PixelData * 3
    return series


def many_frames(series):
    for ds in series:
        ds.NumberOfFrames = 2
        ds.PixelData = ds.PixelData * 2
    return series


def lookup_table(series):
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [2, 0, 16], "US", b"\0\0\1\0"
    for ds in series:
        ds.ModalityLUTSequence = Sequence([item])
    return series


REFUSALS = [
    ("E_SLICE_GAP", "MR", drop(3)),
    ("E_SLICE_GAP", "MR", drop(2, 3, 6)),
    ("E_SLICE_GAP", "MR", lambda s: put(None, SpacingBetweenSlices=2.5)(s[::2])),
    ("E_SLICE_DUPLICATE", "MR", one_twice),
    ("E_SLICE_DUPLICATE", "MR", in_two_versions),
    ("E_SLICE_SPACING", "MR", move(2, lambda n: 0.3 * (n - 4) ** 2, slice(5, None))),
    ("E_SLICE_SPACING", "MR", move(0, lambda n: 3.0, slice(3, 5))),
    ("E_TILT", "CT", move(1, lambda n: 2.5 * np.tan(np.radians(15)) * n)),
    ("E_TILT", "CT", put(None, GantryDetectorTilt=12.5)),
    ("E_MATRIX", "CT", other_matrix),
    ("E_MATRIX", "CT", put(PixelSpacing=[0.8, 0.8])),
    ("E_POSITION", "CT", put(ImagePositionPatient=None)),
    ("E_ORIENTATION", "CT", put(ImageOrientationPatient=None)),
    ("E_ORIENTATION", "CT", put(None, ImageOrientationPatient=[1, 0, 0, 0.2, 0.98, 0])),
    ("E_SPACING", "CT", put(PixelSpacing=None)),
    ("E_SPACING", "CT", put(None, PixelSpacing=[0, 0])),
    ("E_TIME_SERIES", "MR", twice),
    ("E_DIMENSIONS", "MR", lambda series: series[:1]),
    ("E_DIMENSIONS", "MR", lambda series: series[:2]),
    ("E_NAN", "MR", put(RescaleSlope="1e38", RescaleIntercept="0")),
    ("E_FRAMES", "MR", many_frames),
    ("E_MOSAIC", "MR", put(None, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
    pytest.param("E_BURNED_IN", "CT", put(BurnedInAnnotation="YES"), marks=pytest.mark.fault(27)),
    ("E_PATIENT", "CT", put(PatientID="4712")),
    ("E_FRAME_OF_REFERENCE", "CT", put(FrameOfReferenceUID=generate_uid())),
    ("E_RESCALE", "CT", put(RescaleSlope=None)),
    ("E_RESCALE", "CT", put(RescaleSlope=0)),
    ("E_RESCALE", "CT", put(None, RescaleType="Z_EFF")),
    ("E_RESCALE", "MR", lookup_table),
    ("E_DTYPE", "MR", colours),
    ("E_HEADER", "MR", put(Rows=None)),
    ("E_HEADER", "MR", put(None, BitsStored=20)),
    ("E_HEADER", "MR", put(None, HighBit=15)),
    ("E_SIZE", "MR", put(None, Rows=65535, Columns=65535)),
    ("E_TRUNCATED", "MR", cut),
    ("E_TRUNCATED", "MR", put(PixelData=None)),
    ("E_CONSTANT", "MR", lambda series: put(None, PixelData=bytes(2 * 40 * 32))(series)),
]


@pytest.mark.fault(22)
@pytest.mark.parametrize(("code", "modality", "broken"), REFUSALS)
def test_a_broken_series_is_refused_with_its_code_and_the_rest_goes_on(
    code, modality, broken, tmp_path, measured
):
    save(broken(make_series(modality)), tmp_path / "in" / "a")
    save(make_series(modality, slices=3, seed=5), tmp_path / "in" / "b")
    found = indexed(tmp_path / "in", tmp_path)
    assert [row.code for row in found.series] == [code, ""], found.series
    assert [refusal.code for refusal in found.refusals] == [code]
    assert len(found.cases) == 1
    assert "MUSTERMANN" not in str(found.series)
    measured(code)


def without_places(ds):
    del ds.PerFrameFunctionalGroupsSequence
    return ds


def without_positions(ds):
    for item in ds.PerFrameFunctionalGroupsSequence:
        del item.PlanePositionSequence
    return ds


def fewer_places(ds):
    ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:-1]
    return ds


def one_frame_moved(ds):
    place = ds.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0]
    place.ImagePositionPatient = [-40, -30, 401]
    return ds


def short(ds):
    ds.PixelData = ds.PixelData[:-2]
    return ds


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("code", "broken"),
    [
        ("E_FRAMES", without_places),
        ("E_FRAMES", without_positions),
        ("E_FRAMES", fewer_places),
        ("E_SLICE_SPACING", one_frame_moved),
        ("E_TRUNCATED", short),
    ],
)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_broken_multi_frame_file_is_refused_with_its_code(
    modality, code, broken, tmp_path, measured
):
    save([broken(make_enhanced(modality))], tmp_path / "in")
    assert [row.code for row in indexed(tmp_path / "in", tmp_path).series] == [code]
    measured(f"{modality}, {broken.__name__.replace('_', ' ')}: {code}")


SCOUT = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
MPR = {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}
CAPTURE = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
PET = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT"}
CONTOURS = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3", "Modality": "RTSTRUCT"}
REPORT = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR"}
MASKS = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}
DOCUMENT = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Modality": "DOC"}
STRANGE = {"SOPClassUID": "1.2.3.4", "Modality": "MUSTERMANN"}


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("code", "tags"),
    [
        ("E_LOCALIZER", SCOUT), ("E_DERIVED", MPR), ("E_OBJECT", CAPTURE), ("E_OBJECT", PET),
        ("E_OBJECT", CONTOURS), ("E_OBJECT", REPORT), ("E_OBJECT", MASKS), ("E_OBJECT", DOCUMENT),
        ("E_OBJECT", STRANGE),
    ],
)  # fmt: skip
def test_what_is_no_scan_is_set_aside_even_within_the_same_series(code, tags, tmp_path, measured):
    series = make_series("CT")
    other = put(None, **tags)(make_series("CT", slices=1))
    other[0].SeriesInstanceUID = series[0].SeriesInstanceUID
    save(other + series, tmp_path / "in")
    found = indexed(tmp_path / "in", tmp_path)
    assert [(row.status, row.code) for row in found.series] == [("ignored", code), ("used", "")]
    assert found.refusals == ()
    assert "MUSTERMANN" not in str(found)
    measured(f"set aside: {code}")


@pytest.mark.fault(23)
def test_directions_and_image_types_of_one_series_are_scans_of_their_own(tmp_path, measured):
    series = make_series("MR")
    sagittal = make_series("MR", cosines=(0, 1, 0, 0, 0, -1), seed=1)
    other = make_series("MR", seed=2, ImageType=["ORIGINAL", "PRIMARY", "M", "NORM"])
    for ds in sagittal + other:
        ds.SeriesInstanceUID = series[0].SeriesInstanceUID
    save(series + sagittal + other, tmp_path / "in")
    found = indexed(tmp_path / "in", tmp_path)
    assert [row.status for row in found.series] == ["used"] * 3
    assert len({case.case for case in found.cases}) == 3
    assert len({case.subject for case in found.cases}) == 1
    measured(f"{len(found.cases)} scans under one UID told apart")


def test_a_mixed_nested_folder_gives_its_scans_and_says_what_is_broken(tmp_path):
    top = tmp_path / "in"
    save(make_series("MR", PatientID="A"), top / "study 1" / "MR")
    save(make_series("CT", PatientID="A", seed=1), top / "study 1", "ct")
    save(make_series("MR", PatientID="B", seed=2), top / "é\n2")
    (top / "notes.txt").write_text("hello")
    (top / "tiny").write_bytes(b"\x08")
    (top / "empty.dcm").write_bytes(b"")
    (top / "photo.dcm").write_bytes(os.urandom(4000))
    (top / "half.dcm").write_bytes((top / "study 1" / "ct000").read_bytes()[:200])
    (top / "nowhere.dcm").symlink_to(tmp_path / "none")
    outside = save(make_series("MR", seed=3), tmp_path / "elsewhere")
    (top / "link.dcm").symlink_to(outside / "i000")
    (top / ".hidden").mkdir()
    shutil.copy(outside / "i001", top / ".hidden" / "i001")
    directory = make_series("MR")[0]
    directory.SOPClassUID = directory.file_meta.MediaStorageSOPClassUID = DIRECTORY
    save([directory], top, "DICOMDIR")
    found = indexed(top, tmp_path)
    assert len(found.cases) == 3
    assert len({case.subject for case in found.cases}) == 2
    codes = sorted(refusal.code for refusal in found.refusals)
    assert codes == ["E_DICOM", "E_DICOM", "E_EMPTY", "E_OUTSIDE"]
    assert sum(row.status == "refused" for row in found.series) == 4


def test_files_of_other_programs_are_not_taken_for_dicom(tmp_path):
    save(make_series("MR"), tmp_path)
    (tmp_path / "table.bin").write_bytes(np.array([8, 4, 1, 2], np.int32).tobytes() * 99)
    (tmp_path / "longs").write_bytes(np.array([8, 4, 1, 2], np.int64).tobytes() * 99)
    assert [row.status for row in indexed(tmp_path, tmp_path / "out").series] == ["used"]


def test_identical_copies_count_once_and_the_table_says_so(tmp_path):
    series = make_series("CT")
    save(series, tmp_path / "in" / "a")
    save(series[:3], tmp_path / "in" / "b")
    (row,) = indexed(tmp_path / "in", tmp_path).series
    assert (row.status, row.what) == ("used", "3 identical copies left out")


def test_the_same_scan_under_new_uids_is_a_duplicate(tmp_path):
    save(make_series("CT"), tmp_path / "in" / "a")
    save(make_series("CT", PatientID="B"), tmp_path / "in" / "b")
    assert [row.code for row in indexed(tmp_path / "in", tmp_path).series] == ["", "E_DUPLICATE"]


PRIVATE = JPEG2000Lossless


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.100", JPEGExtended12Bit, "1.2.840.10008.1.2.4.201", "1.2.3"]
)
def test_a_syntax_that_is_not_read_is_named(syntax, tmp_path, measured):
    private = syntax == "1.2.3"
    series = make_series("MR")
    for ds in series:
        ds.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = PRIVATE if private else syntax
    folder = save(series, tmp_path / "in")
    for path in folder.iterdir() if private else ():  # pydicom writes no syntax it does not know
        text = path.read_bytes()
        path.write_bytes(text.replace(PRIVATE.encode(), syntax.encode().ljust(len(PRIVATE), b"\0")))
    (row,) = indexed(tmp_path / "in", tmp_path).series
    assert row.code == "E_SYNTAX"
    name = pydicom.uid.UID(syntax).name
    assert ("of a private kind" if private else name) in row.what
    measured(f"{name}: {row.code}")


@pytest.mark.parametrize("start", [0, PREAMBLE + 4])
def test_a_deflated_file_is_not_even_opened(start, tmp_path):
    series = make_series("MR", slices=2)
    for ds in series:
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    for path in save(series, tmp_path / "in").iterdir():
        path.write_bytes(path.read_bytes()[start:])
    assert {row.code for row in indexed(tmp_path / "in", tmp_path).series} == {"E_SYNTAX"}


def test_damaged_compressed_pixels_are_refused_and_never_end_the_process(tmp_path, rng):
    """Of each syntax a series with a frame cut short, one with a frame overwritten, a good one."""
    top, expected = tmp_path / "in", []
    damages = {
        "cut": lambda raw: raw[: len(raw) // 2],
        "overwritten": lambda raw: raw[:2] + rng.bytes(len(raw) - 4) + raw[-2:],
        "": lambda raw: raw,
    }
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1):
        for damaged, damage in damages.items():
            folder = save(
                make_series("CT", slices=3, seed=len(expected)), top / f"{len(expected):02}"
            )
            for path in folder.iterdir():
                compress(path, syntax)
            ds = pydicom.dcmread(folder / "i001")
            raw = next(generate_frames(ds.PixelData, number_of_frames=1))
            ds.PixelData = encapsulate([damage(raw)])
            ds.save_as(folder / "i001")
            codes = {"cut": {"E_TRUNCATED"}, "overwritten": {"E_TRUNCATED", "E_PIXELS"}, "": {""}}
            # Run lengths have no end mark; only decoding tells.
            rle = {"E_PIXELS"} if syntax == RLELossless and damaged else set()
            expected.append(codes[damaged] | rle)
    found = indexed(top, tmp_path)
    assert len(found.series) == len(expected)
    for row, codes in zip(found.series, expected, strict=True):
        assert row.code in codes, row


@pytest.mark.fault(43)
def test_a_decoder_that_dies_or_hangs_costs_one_file_and_is_started_again(tmp_path, monkeypatch):
    path = save(make_series("CT", slices=1), tmp_path) / "i000"
    compress(path, JPEGLSLossless)
    with closing(Decoder()) as decoder:
        good = decoder.read(path, JPEGLSLossless, [0], "c")
        decoder._child.kill()
        decoder._child.wait()
        with pytest.raises(DataError, match="E_PIXELS c"):
            decoder.read(path, JPEGLSLossless, [0], "c")
        np.testing.assert_array_equal(decoder.read(path, JPEGLSLossless, [0], "c"), good)
        with monkeypatch.context() as short:
            short.setattr("medgan.data.dicom.decoder.SECONDS", -1.0)
            os.kill(decoder._child.pid, signal.SIGSTOP)
            with pytest.raises(DataError, match="E_PIXELS c"):
                decoder.read(path, JPEGLSLossless, [0], "c")
        np.testing.assert_array_equal(decoder.read(path, JPEGLSLossless, [0], "c"), good)


def nested(depth: int, tag: bytes, told: bool = False) -> bytes:
    """Sequences in sequences, by hand: pydicom cannot write what it cannot read.

    Args:
        depth: how many.
        tag: of all of them.
        told: whether their lengths are told; else each ends where a mark says so.
    """
    head, item = tag + b"SQ\0\0", b"\xfe\xff\x00\xe0"
    if not told:
        end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        return (head + b"\xff" * 4 + item + b"\xff" * 4) * depth + end * depth
    inner = range(20 * (depth - 1), -1, -20)
    return b"".join(head + pack("<I", n + 8) + item + pack("<I", n) for n in inner)


@pytest.mark.fault(26)
@pytest.mark.parametrize("depth", [200, 300, 400, 3000])
def test_sequences_nested_without_end_are_refused(tmp_path, depth, measured):
    folder = save(make_series("MR"), tmp_path / "in")
    path = folder / "i003"
    whole = path.read_bytes()
    at = whole.index(b"\x10\x00\x10\x00")
    path.write_bytes(whole[:at] + nested(depth, b"\x20\x00\x13\x91") + whole[at:])
    with pytest.raises(DataError, match=r"E_DICOM.*nested too deeply"):
        read_frames(path)
    measured(f"nested {depth} deep: E_DICOM")
    assert sorted(r.code for r in indexed(folder, tmp_path).refusals) == ["E_DICOM", "E_SLICE_GAP"]


@pytest.mark.fault(26)
def test_ten_thousand_sequences_in_each_other_end_no_thread_however_small_its_stack(
    tmp_path, measured
):
    """pydicom is Python, whose limit of recursion comes long before the end of the stack."""
    known, groups, table = b"\x20\x00\x13\x91", b"\x00\x52\x29\x92", b"\x28\x00\x00\x30"
    codes = []
    for number, (tag, told) in enumerate(product((known, groups, table), (False, True))):
        enhanced = tag == groups
        series = [make_enhanced("MR", slices=3)] if enhanced else make_series("MR", seed=number)
        folder = save(series, tmp_path / "in" / str(number))
        path = folder / "i000"
        whole = path.read_bytes()
        at = whole.index(groups if enhanced else b"\x10\x00\x20\x00")
        path.write_bytes(whole[:at] + nested(10_000, tag, told) + whole[at:])
        try:
            read_frames(path)
            codes.append("read")
        except DataError as error:
            codes.append(error.code)
    # Where the length is told, nobody looks into what nobody asks for.
    assert codes == ["E_DICOM", "read"] * 3
    save(make_series("CT", seed=9), tmp_path / "in" / "good")
    before, found = threading.stack_size(256 * 1024), []
    try:
        scan = threading.Thread(target=lambda: found.append(indexed(tmp_path / "in", tmp_path)))
        scan.start()
    finally:
        threading.stack_size(before)
    scan.join()
    assert sum(row.code == "E_DICOM" for row in found[0].series) == 3
    assert "" in [row.code for row in found[0].series if row.modality == "CT"]
    measured(
        f"nested 10,000 deep in {len(codes)} ways: {codes.count('E_DICOM')} refused by type, "
        "others harmless, the folder read to its end in a thread with a stack of 256 KB"
    )


@pytest.mark.fault(14)
def test_headers_cut_or_overwritten_anywhere_give_typed_errors(tmp_path, rng):
    folder = save([make_enhanced("CT", slices=3)], tmp_path / "in")
    whole = bytearray((folder / "i000").read_bytes())
    header = len(whole) - 3 * 40 * 32 * 2
    path, codes = tmp_path / "broken", set()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, header, rng.integers(1, 20)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, header)] if rng.random() < 0.3 else damaged)
        code = ""
        try:
            read_frames(path)
        except DataError as error:
            code = error.code
        codes.add(code)
    assert codes == {"", "E_DICOM", "E_EMPTY"}


@pytest.mark.fault(19)
def test_a_file_that_may_not_be_read_is_refused():
    with open_folder() as place:
        folder = save(make_series("MR"), place / "in")
        (folder / "i003").rename(folder / "i003.dcm")
        (folder / "i003.dcm").chmod(0)
        with without_rights():
            assert "E_UNREADABLE" in [refusal.code for refusal in indexed(folder, place).refusals]


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"BitsStored": 60000, "HighBit": 59999}, "E_HEADER"),
        ({"BitsAllocated": 64}, "E_HEADER"),
        ({"PixelSpacing": [1e300, 1e300]}, "E_POSITION"),
        ({"ImagePositionPatient": [0, 0, "1e308"]}, "E_POSITION"),
        ({"Rows": 65535, "Columns": 65535}, "E_SIZE"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "-1e308"}, ""),
    ],
)
def test_impossible_values_in_a_header_are_refused_by_name_before_decoding(
    modality, tags, code, tmp_path
):
    save(put(None, **tags)(make_series(modality)), tmp_path / "in" / "0")
    save(make_series(modality, seed=1), tmp_path / "in" / "1")
    found = indexed(tmp_path / "in", tmp_path)
    assert len(found.cases) == 1
    assert "cannot be read" not in found.refusals[0].what
    assert not code or found.refusals[0].code == code


def test_run_lengths_are_decoded_in_the_process_with_limited_memory(tmp_path, monkeypatch):
    """A damaged file can expand sixty-fourfold."""
    path = save(make_series("CT", slices=1), tmp_path) / "i000"
    compress(path, RLELossless)
    monkeypatch.setattr("medgan.data.dicom.decoder._read", None)
    with closing(Decoder()) as decoder:
        assert decoder.read(path, RLELossless, [0], "c").shape == (1, 40, 32)


@pytest.mark.fault(11)
def test_compressed_slices_that_unpack_to_gigabytes_are_refused_undecoded(tmp_path, measured):
    size, series = 1024, make_series(slices=32)
    for ds in series:
        ds.Rows = ds.Columns = size
    series[0].PixelData = bytes(2 * size * size)
    (first,) = save(series[:1], tmp_path / "one").iterdir()
    compress(first, JPEG2000Lossless)
    packed = pydicom.dcmread(first)
    for ds in series:
        ds.PixelData, ds.file_meta = packed.PixelData, packed.file_meta
        ds["PixelData"].is_undefined_length = True
    folder = save(series, tmp_path / "series")
    frames = tuple(frame for path in sorted(folder.iterdir()) for frame in read_frames(path))
    decoder = Undecoded()
    with pytest.raises(DataError, match="E_SIZE c: it would take"):
        read_voxels(frames, decoder, "c")
    stored = sum(path.stat().st_size for path in folder.iterdir())
    measured(
        f"JPEG 2000 of {stored / 1e3:.0f} KB that takes {4 * size**2 * len(frames) / 2**20:.0f} "
        f"MiB: refused, {decoder.asked} of {len(frames)} slices decoded"
    )


class Undecoded(Decoder):
    """Counts what it is asked for, and starts no child."""

    asked = 0

    def read(self, path, syntax, numbers, case):
        self.asked += 1
        return np.zeros((len(numbers), 1024, 1024), np.uint16)
