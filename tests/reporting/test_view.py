import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import medgan
from medgan.anomaly.regions import Region
from medgan.core.config import ModelConfig
from medgan.core.errors import DataError
from medgan.core.tables import html_facts, html_table
from medgan.core.volume import Volume
from medgan.data.manifest import Case, Manifest, Refusal
from medgan.model.model import Model
from medgan.model.outputs import ScanScore
from medgan.reporting.view import show
from tests.kit.models import CONFIG, GRID, fresh_state

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


class Cells(HTMLParser):
    """The cells of a table, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.cells.append(data)


def heated():
    """A scan with its brightest voxel far right, front and top, and a map that peaks there."""
    data = np.zeros((12, 14, 10), np.float32)
    data[9, 11, 7] = 100
    heat = np.zeros_like(data)
    heat[9, 11, 7] = 6
    return Volume(data, AFFINE), Volume(heat, AFFINE)


def panels(figure):
    return [axes for axes in figure.axes if axes.get_title()]


def lit(image):
    """Row and column of the brightest pixel, as shares of the picture from the top left."""
    data = np.ma.filled(np.ma.asarray(image.get_array()), -1)
    row, column = np.unravel_index(int(np.argmax(data)), data.shape)
    return row / data.shape[0], column / data.shape[1]


def test_three_planes_go_through_the_peak_and_name_the_sides_it_lies_on():
    scan, heat = heated()
    figure = show(scan, heat)
    assert [axes.get_title() for axes in panels(figure)] == ["sagittal", "coronal", "axial"]
    for axes, sides in zip(panels(figure), ("APSI", "RLSI", "RLAP"), strict=True):
        letters = {text.get_text(): text.get_position() for text in axes.texts}
        assert set(letters) == set(sides)
        left, right, top, bottom = (letters[side] for side in sides)
        assert left[0] < 0.5 < right[0]
        assert bottom[1] < 0.5 < top[1]
        for image in axes.images:  # right, front and top are on the left and upper side
            row, column = lit(image)
            assert row < 0.5
            assert column < 0.5
        assert len(axes.images) == 2


def test_a_scan_stored_in_another_orientation_looks_the_same():
    scan, heat = heated()
    flipped = AFFINE.copy()
    flipped[0, 0], flipped[0, 3] = -2, 2 * 11
    other = Volume(scan.data[::-1].copy(), flipped)
    for a, b in zip(panels(show(scan)), panels(show(other)), strict=True):
        assert np.array_equal(a.images[0].get_array(), b.images[0].get_array())
    label = Volume((scan.data > 0).astype(np.uint8), AFFINE)
    outlined = show(scan, label_map=label, at=(18.0, 22.0, 21.0))
    assert all(axes.collections for axes in panels(outlined))
    with pytest.raises(DataError, match="E_LABEL_GRID"):
        show(scan, Volume(heat.data, AFFINE @ np.diag([1.5, 1, 1, 1])))


def test_a_place_in_mm_is_cut_through_and_a_scan_alone_in_its_middle(tmp_path):
    scan, _ = heated()
    scan.save(tmp_path / "scan.nii.gz")
    figure = show(tmp_path / "scan.nii.gz", at=(18.0, 22.0, 21.0))
    assert all(axes.images[0].get_array().max() == 100 for axes in panels(figure))
    assert all(axes.images[0].get_array().max() == 0 for axes in panels(show(scan)))
    figure.savefig(tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes().startswith(b"\x89PNG")


def test_show_is_there_without_loading_anything_heavy():
    code = "import sys, medgan; print('show' in medgan.__all__, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"]
    assert medgan.show is show


def test_tables_escape_what_is_in_them_and_leave_out_what_is_empty():
    text = html_facts({"<b>": "<script>", "none": None, "nothing": "", "zero": 0}, "<i>")
    assert "<script>" not in text
    assert "<b><b>" not in text
    assert Cells(text).cells == ["<b>", "<script>", "zero", "0"]
    assert Cells(html_table(["a&b"], [["<td>"]], "t")).cells == ["a&b", "<td>"]


def test_a_model_says_what_it_is():
    state = fresh_state()
    facts = {"training_scans": 8, "data_licence": "<CC BY>"}
    model = Model(state.average, GRID, CONFIG.model, facts)
    cells = Cells(model._repr_html_()).cells
    said = dict(zip(cells[::2], cells[1::2], strict=True))
    assert said["grid"] == "16 x 16 x 16 voxels of 2 x 2 x 2 mm"
    assert said["calibrated"] == "not yet"
    assert said["training scans"] == "8"
    assert said["data licence"] == "<CC BY>"
    assert isinstance(model.sizes, ModelConfig)


def test_a_manifest_counts_and_names_nobody():
    def case(name, split, label):
        return Case(
            name, "s-1", {"image": "/DOE_JANE/scan.nii"}, label, {"image": name}, None, (9, 9, 9),
            (1.0, 1.0, 1.0), (), {"name": "DOE_JANE"}, split=split,
        )  # fmt: skip

    cases = (case("c-1", "train", "/DOE_JANE/l.nii"), case("c-2", "train", None))
    refusal = Refusal("c-3", "E_NAN", "9 voxels", "export")
    text = Manifest(cases, (refusal,))._repr_html_()
    cells = Cells(text).cells
    assert cells[5:10] == ["train", "1", "2", "1", "2"]
    assert cells[-2:] == ["E_NAN", "1"]
    assert "DOE" not in text


def test_a_score_gives_its_verdict_and_its_highest_regions():
    scan, heat = heated()
    region = Region(1, 24.0, 6.0, 3.0, (18.0, 22.0, 21.0), (18.0, 22.0, 21.0), "<label>")
    parts = {"density": 2.5}
    result = ScanScore(2.5, 0.04, parts, heat, scan, (region,) * 12)
    cells = Cells(result._repr_html_()).cells
    assert cells[:4] == ["score", "2.50", "p-value", "0.04"]
    assert result.explanation in cells
    assert "18, 22, 21" in cells
    assert cells.count("<label>") == 10
    strange = ScanScore(2.5, None, parts, heat, scan, reasons=("its field of view differs",))
    assert Cells(strange._repr_html_()).cells[3] == "none"
