import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage

from medgan.reporting.sample_grid import sample_grid
from medgan.reporting.side_by_side import Column, side_by_side
from medgan.reporting.slices import (
    DIFFERENCE,
    LABEL_COLOURS,
    PREPARED,
    ColourScale,
    colour_table,
    heat_table,
    plane,
    thumbnail,
)

SHAPE = (10, 14, 12)
LEFT, RIGHT = 0, SHAPE[0] - 1
BACK, FRONT = 0, SHAPE[1] - 1
FEET, HEAD = 0, SHAPE[2] - 1


def volumes(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *SHAPE)).astype(np.float32)


def coloured(path, colour=None) -> int:
    """Pixels of the picture that are near a colour, or that are not grey."""
    pixels = imread(path)[..., :3]
    if colour is None:
        return int((np.ptp(pixels, axis=-1) > 0.3).sum())
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return int((np.abs(pixels - wanted).max(axis=-1) < 0.08).sum())


@pytest.mark.parametrize(
    ("axis", "marker", "corner"),
    [
        (0, (RIGHT, FRONT, HEAD), (0, 0)),
        (0, (RIGHT, BACK, HEAD), (0, -1)),
        (0, (RIGHT, FRONT, FEET), (-1, 0)),
        (1, (RIGHT, FRONT, HEAD), (0, 0)),
        (1, (LEFT, FRONT, HEAD), (0, -1)),
        (1, (RIGHT, FRONT, FEET), (-1, 0)),
        (2, (RIGHT, FRONT, HEAD), (0, 0)),
        (2, (LEFT, FRONT, HEAD), (0, -1)),
        (2, (RIGHT, BACK, HEAD), (-1, 0)),
    ],
)
def test_a_marker_appears_where_a_radiologist_looks_for_it(axis, marker, corner):
    data = np.zeros(SHAPE)
    data[marker] = 1
    seen = plane(data, axis, marker[axis])
    across, up = (n for number, n in enumerate(SHAPE) if number != axis)
    assert seen.shape == (up, across)
    assert seen[corner] == 1
    assert seen.sum() == 1


def test_a_plane_shows_only_its_own_position():
    data = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for axis in range(3):
        for position in (0, 5):
            assert set(plane(data, axis, position).flat) == set(data.take(position, axis).flat)


def test_unlabelled_samples_are_written_without_outlines(tmp_path):
    path = tmp_path / "new" / "grid.png"
    scans = volumes(2)
    sample_grid(path, volumes(1, seed=1), scans, scans, title="three columns or fewer")
    assert path.read_bytes().startswith(b"\x89PNG")
    for colour in (LABEL_COLOURS[3 - 1], LABEL_COLOURS[(7 - 1) % len(LABEL_COLOURS)]):
        assert coloured(path, colour) == 0


def test_labelled_samples_are_outlined_in_a_colour_a_label(tmp_path):
    labels = np.zeros((8, *SHAPE), dtype=np.int16)
    labels[:, 2:8, 3:11, 3:9] = 3
    labels[:, 4:6, 5:9, 5:7] = 7
    labels[5] = 0
    path = tmp_path / "grid.png"
    scans = volumes(3)
    sample_grid(path, volumes(8), scans, scans, list(labels))
    for colour in (LABEL_COLOURS[3 - 1], LABEL_COLOURS[(7 - 1) % len(LABEL_COLOURS)]):
        assert coloured(path, colour) > 50


def test_residuals_glow_where_the_reconstruction_is_wrong(tmp_path):
    scans = np.zeros((1, *SHAPE), dtype=np.float32)
    for name, error in (("right", 0.0), ("wrong", 0.5)):
        sample_grid(tmp_path / f"{name}.png", scans, scans, scans + error)
    assert coloured(tmp_path / "right.png") == 0
    assert coloured(tmp_path / "wrong.png") > 500


def white(path) -> int:
    return int((imread(path)[..., :3].min(axis=-1) > 0.98).sum())


def test_columns_side_by_side_share_slices_and_keep_the_bodys_proportions(tmp_path):
    """A cube in mm is a square in each plane of each column, whatever the voxel size."""
    scan = np.full((20, 24, 8), -1.0, dtype=np.float32)
    scan[6:14, 8:16, 3:5] = 1
    path = tmp_path / "columns.png"
    columns = [Column(f"{n}", scan, PREPARED) for n in range(3)]
    side_by_side(path, columns, (1.0, 1.0, 4.0), at=(7, 9, 3))
    parts, _ = ndimage.label(imread(path)[..., 0] > 0.5)
    squares = [box for box in ndimage.find_objects(parts) if box[0].stop - box[0].start > 30]
    assert len(squares) == 9
    for down, across in squares:
        assert down.stop - down.start == pytest.approx(across.stop - across.start, rel=0.12)
    side_by_side(path, columns, (1.0, 1.0, 4.0), at=(0, 0, 0))
    assert white(path) < 2000


def test_a_difference_is_black_where_there_is_none_and_coloured_by_its_sign(tmp_path):
    shares = {}
    for name, value in (("none", 0.0), ("lower", -0.2), ("higher", 0.2)):
        path = tmp_path / f"{name}.png"
        data = np.full(SHAPE, value, dtype=np.float32)
        side_by_side(
            path, [Column(name, data, ColourScale(-0.2, 0.2, DIFFERENCE))], (1.0, 1.0, 1.0)
        )
        shares[name] = [coloured(path, DIFFERENCE[end]) for end in (0, -1)]
    assert shares["none"] == [0, 0]
    assert shares["lower"][0] > 1000
    assert shares["lower"][1] == 0
    assert shares["higher"][1] > 1000
    assert shares["higher"][0] == 0


def test_a_thumbnail_is_grey_but_for_the_heat_and_hotter_is_brighter(tmp_path):
    scan = np.tile(np.linspace(0, 100, 12), (10, 1))
    heat = np.zeros((10, 12))
    heat[2, 3], heat[5, 6] = 6.0, 30.0
    path = tmp_path / "thumbnail.png"
    path.write_bytes(thumbnail(scan, (0.0, 100.0), heat, (4.0, 12.0)))
    pixels = imread(path)[..., :3]
    assert pixels.shape == (10, 12, 3)
    coloured_at = np.argwhere(np.ptp(pixels, axis=-1) > 0.05)
    assert coloured_at.tolist() == [[2, 3], [5, 6]]
    assert pixels[5, 6].mean() > pixels[2, 3].mean()
    np.testing.assert_allclose(pixels[0, :, 0], np.linspace(0, 1, 12), atol=0.01)


def test_colour_tables_end_in_the_colours_asked_for():
    table = colour_table(DIFFERENCE)
    assert table.shape == (256, 3)
    for row, colour in ((table[0], DIFFERENCE[0]), (table[-1], DIFFERENCE[-1])):
        assert "#" + bytes(row).hex() == colour
    assert table[127:129].max() <= 2  # black where there is no difference
    assert heat_table()[0].sum() > 50  # heat begins in a colour that is seen on black
