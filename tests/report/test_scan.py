import base64
import re
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from medgan.report.scan import write_scan_page
from medgan.results import ScanScore
from medgan.scoring.regions import find_regions
from medgan.volume import Volume

AFFINE = np.array([[0, 0, 2.0, -20], [-2.0, 0, 0, 30], [0, 3.0, 0, 5], [0, 0, 0, 1.0]])


def result(p_value=0.025, reasons=()):
    heat = np.zeros((12, 14, 16))
    heat[3:5, 4:6, 2:4] = 9.0
    heat[9, 9, 12] = 5.0
    numbered, regions = find_regions(heat, 4.0, AFFINE)
    return ScanScore(
        2.5, p_value, {"residual": 1.0, "features": 4.0}, Volume(heat, AFFINE),
        Volume(np.zeros((12, 14, 16)), AFFINE), tuple(regions), Volume(numbered, AFFINE), reasons,
    )  # fmt: skip


def page(tmp_path, scored):
    scan = Volume(np.linspace(0, 1, 12 * 14 * 16).reshape(12, 14, 16), AFFINE)
    write_scan_page(tmp_path / "scan.html", "sub-1", scan, scored, [0.0, 1.0, 2.0])
    return (tmp_path / "scan.html").read_text()


def pictures(text, kind):
    found = re.findall(rf'<img{kind} src="data:image/png;base64,([^"]+)"', text)
    return [imread(BytesIO(base64.b64decode(one))) for one in found]


def test_a_page_says_score_p_value_what_drove_it_and_lists_the_regions(tmp_path):
    text = page(tmp_path, result())
    assert "<strong>2.50</strong>" in text
    assert "<strong>0.025</strong>" in text
    assert "The features map drove the score: 4.0 healthy standard deviations" in text
    assert text.count("<tr><td>") == 2
    assert "96" in text  # mm³ of the larger one: 8 voxels of 12
    assert 'src="http' not in text


def test_the_heat_lies_where_the_map_is_high_and_nowhere_else(tmp_path):
    text = page(tmp_path, result())
    sagittal, coronal, axial = pictures(text, ' class="heat"')[:3]
    # Array axes run to the back, up and right; RAS+ slices are cut from (X 16, Y 12, Z 14).
    assert [p.shape[:2] for p in (sagittal, coronal, axial)] == [(14, 12), (14, 16), (12, 16)]
    for picture in (sagittal, coronal, axial):
        assert (picture[..., 3] > 0).sum() == 4
    rows, columns = np.nonzero(axial[..., 3])
    # X 2 and 3 of 16 lie on the patient's left, which is right; Y is 12 - 1 - (3, 4).
    assert set(columns) == {12, 13}
    assert set(rows) == {3, 4}


def test_a_scan_that_is_not_comparable_gets_no_p_value(tmp_path):
    text = page(tmp_path, result(None, ("its anatomy lies elsewhere",)))
    assert "Not comparable." in text
    assert "its anatomy lies elsewhere" in text
    assert "p-value <strong>" not in text


@pytest.mark.parametrize("score", [-5.0, 0.5, 40.0])
def test_the_mark_lies_in_the_chart(score, tmp_path):
    from medgan.report.scan import _chart

    chart = _chart([0.0, 1.0, 2.0], score)
    assert 0 <= chart["mark"] <= 100
    assert sum(bar["height"] > 0 for bar in chart["bars"]) >= 1
