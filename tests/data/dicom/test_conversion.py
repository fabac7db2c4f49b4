"""Healthy series of every kind convert exactly."""

import itertools

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medgan.core.volume import Volume
from tests.kit.dicom import (
    AXIAL,
    MATRIX,
    affine_of,
    assert_exact,
    compress,
    expected,
    indexed,
    make_enhanced,
    make_series,
    oblique,
    one_volume,
    save,
    stored_values,
)


@pytest.mark.parametrize("make", [make_series, make_enhanced])
@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize(("bits", "signed"), list(itertools.product((8, 12, 16), (False, True))))
def test_values_of_every_width_come_out_as_stored(make, modality, bits, signed, tmp_path):
    made = make(modality, bits=bits, signed=signed)
    save([made] if isinstance(made, Dataset) else made, tmp_path / "in")
    volume, row = one_volume(tmp_path / "in", tmp_path)
    assert_exact(volume, expected(stored_values(8, bits, signed), modality), affine_of())
    assert (row.modality, row.matrix) == (modality, (32, 40, 8))
    assert row.spacing == pytest.approx((0.5, 0.75, 2.5))


@pytest.mark.parametrize("make", [make_series, make_enhanced])
def test_oblique_slices_keep_their_place(make, tmp_path):
    made = make("MR", cosines=oblique())
    save([made] if isinstance(made, Dataset) else made, tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    assert_exact(volume, expected(stored_values(8, 12, False)), affine_of(oblique()))


def test_the_order_of_files_does_not_matter(tmp_path, rng):
    series = make_series("CT")
    save([series[n] for n in rng.permutation(8)], tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    assert_exact(volume, expected(stored_values(8, 12, False), "CT"), affine_of())


def test_slices_numbered_from_the_other_end_lie_where_their_positions_say(tmp_path):
    save(make_series("MR", step=-2.5), tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    place = np.array([-40.0, -30.0, 100.0 - 7 * 2.5])
    assert_exact(volume, expected(stored_values(8, 12, False))[:, :, ::-1], affine_of(place=place))


def test_positions_that_were_rounded_are_evened_out(tmp_path, rng):
    series = make_series("MR")
    for ds in series:
        ds.ImagePositionPatient = [float(v) + rng.uniform(-1e-4, 1e-4) for v in
                                   ds.ImagePositionPatient]  # fmt: skip
        ds.ImageOrientationPatient = [v + rng.uniform(-1e-4, 1e-4) for v in AXIAL]
    save(series, tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    np.testing.assert_array_equal(volume.data, expected(stored_values(8, 12, False)))
    np.testing.assert_allclose(volume.affine, affine_of(), atol=2e-3)
    spacing = volume.affine[:3, :3]
    grid = spacing.T @ spacing
    np.testing.assert_allclose(grid, np.diag(np.diag(grid)), atol=1e-5)


def test_slices_a_little_off_are_evened_out_and_the_table_says_so(tmp_path):
    series = make_series("CT")
    series[3].ImagePositionPatient[2] += 0.1
    save(series, tmp_path / "in")
    volume, row = one_volume(tmp_path / "in", tmp_path)
    assert row.what == "slice positions corrected by up to 0.1 mm"
    np.testing.assert_allclose(volume.affine, affine_of(), atol=1e-5)


def test_each_slice_has_its_own_rescaling(tmp_path):
    series = make_series("MR")
    for number, ds in enumerate(series):
        ds.RescaleSlope, ds.RescaleIntercept = number - 2.5, -3 * number
    save(series, tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    values = expected(stored_values(8, 12, False))
    slices = np.arange(8, dtype=np.float32)
    assert_exact(volume, values * (slices - 2.5) - 3 * slices, affine_of())


def test_a_negative_slope_turns_values_over(tmp_path):
    save(make_series("CT", RescaleSlope=-2, RescaleIntercept=500), tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    np.testing.assert_array_equal(volume.data, 500 - 2 * expected(stored_values(8, 12, False)))


@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_exchanged_in_mr_and_leaves_hu_alone(signed, tmp_path):
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "signed": signed}
    stored = expected(stored_values(8, 12, signed))
    save(make_series("MR", **inverse), tmp_path / "mr")
    volume, row = one_volume(tmp_path / "mr", tmp_path)
    np.testing.assert_array_equal(volume.data, (-1 if signed else 4095) - stored)
    assert row.what == "MONOCHROME1: intensities inverted"
    save(make_series("CT", **inverse), tmp_path / "ct")
    volume, row = one_volume(tmp_path / "ct", tmp_path)
    np.testing.assert_array_equal(volume.data, stored - 1024)
    assert row.what == "MONOCHROME1: HU kept as they are"


def test_an_overlay_in_unused_bits_is_dropped(tmp_path):
    series = make_series("MR", signed=True)
    for ds in series:
        values = np.frombuffer(ds.PixelData, np.uint16) & 0x0FFF
        ds.PixelData = (values | 0x5000).tobytes()
    save(series, tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    np.testing.assert_array_equal(volume.data, expected(stored_values(8, 12, True)))


SYNTAXES = (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1)


def test_losslessly_compressed_series_are_exact(tmp_path):
    """All in one folder: one child decodes them all."""
    kinds = list(itertools.product(SYNTAXES, (make_series, make_enhanced), WIDTHS))
    truth = {}
    for seed, (syntax, make, (bits, signed)) in enumerate(kinds):
        made = make("CT", slices=4, bits=bits, signed=signed, seed=seed)
        series = [made] if isinstance(made, Dataset) else made
        folder = save(series, tmp_path / "in" / f"{seed:02d}")
        for path in folder.iterdir():
            compress(path, syntax)
        truth[seed] = expected(stored_values(4, bits, signed, seed), "CT")
    found = indexed(tmp_path / "in", tmp_path)
    assert [row.status for row in found.series] == ["used"] * len(kinds), found.series
    for case, voxels in zip(found.cases, truth.values(), strict=True):
        assert_exact(Volume.load(case.image), voxels, affine_of())


WIDTHS = ((8, False), (12, False), (12, True), (16, True))


def test_baseline_jpeg_is_what_pillow_decodes(tmp_path):
    import io

    from PIL import Image

    series, decoded = make_series("MR", slices=4, bits=8), []
    for ds in series:
        stream = io.BytesIO()
        Image.fromarray(np.frombuffer(ds.PixelData, np.uint8).reshape(MATRIX)).save(stream, "JPEG")
        decoded.append(np.asarray(Image.open(io.BytesIO(stream.getvalue()))))
        ds.PixelData = encapsulate([stream.getvalue()])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    save(series, tmp_path / "in")
    volume, _ = one_volume(tmp_path / "in", tmp_path)
    np.testing.assert_array_equal(volume.data, expected(np.array(decoded)))


def test_byte_orders_and_files_without_preamble(tmp_path):
    implicit = make_series("MR")
    for ds in implicit:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    save(implicit, tmp_path / "implicit")
    big = make_series("MR")
    for ds in big:
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    save(big, tmp_path / "big")
    old = make_series("MR")
    (tmp_path / "old").mkdir()
    for number, ds in enumerate(old):
        del ds.file_meta
        pydicom.dcmwrite(tmp_path / "old" / str(number), ds, implicit_vr=True, little_endian=True)
    for kind in ("implicit", "big", "old"):
        volume, _ = one_volume(tmp_path / kind, tmp_path)
        assert_exact(volume, expected(stored_values(8, 12, False)), affine_of())
