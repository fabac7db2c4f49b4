import base64
import gzip
import json
import re

import numpy as np
import pytest

from medgan.core.config import WINDOWS
from medgan.core.volume import Volume
from medgan.reporting.scan import MOST_VOXELS
from tests.kit.pages import AFFINE, SHAPE, maps, page, row


def payload(text):
    found = re.search(r'id="volumes">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def voxels(held, name):
    """A layer as the page's script reads it: X first, low plus steps."""
    layer = held["layers"][name]
    kind = np.uint16 if layer["bits"] == 16 else np.uint8
    whole = np.frombuffer(gzip.decompress(base64.b64decode(layer["data"])), kind)
    return whole.reshape(held["shape"], order="F") * layer["step"] + layer["low"]


def test_a_page_says_score_p_value_and_why_and_lists_the_regions():
    text = page()
    assert "<strong>2.50</strong>" in text
    assert "<strong>0.025</strong>" in text
    assert '<strong class="low">flagged</strong>' in text
    assert "The features map drove the score." in text
    assert text.count("data-region=") == 2
    assert ">96<" in text
    assert 'href="before.html"' in text


def test_a_scan_that_is_not_comparable_gets_no_p_value():
    text = page(
        row(p_value=None, comparable=False, flagged=False, explanation="its anatomy lies elsewhere")
    )
    assert "Not comparable." in text
    assert "its anatomy lies elsewhere" in text
    assert "p-value <strong>" not in text
    assert "<strong>2.50</strong>" not in text
    assert "<circle" not in text


def test_the_voxels_of_a_page_are_those_of_the_files_turned_to_the_patient():
    given, held = maps(), payload(page())
    for name, volume in (("scan", given.scan), ("recon", given.recon), ("heat", given.heat)):
        wanted, layer = volume.canonical(), held["layers"][name]
        assert held["shape"] == list(wanted.data.shape)
        np.testing.assert_allclose(held["affine"], wanted.affine)
        inside = wanted.data <= layer["low"] + 255 * layer["step"]  # the brightest are cut off
        assert inside.mean() > 0.99
        error = np.abs(voxels(held, name) - wanted.data)[inside]
        assert error.max() <= layer["step"] / 2 + 1e-4
    np.testing.assert_array_equal(voxels(held, "regions"), given.regions.canonical().data)


def test_the_position_of_a_region_is_its_peak_on_the_page():
    held = payload(page())
    heat, numbers = voxels(held, "heat"), voxels(held, "regions")
    for number, place in enumerate(held["region_peaks"], start=1):
        assert numbers[tuple(place)] == number
    assert held["region_peaks"][0] == held["peak"]
    assert heat[tuple(held["region_peaks"][0])] == heat.max()


def test_planes_open_at_the_highest_heat_or_in_the_middle_where_there_is_none():
    hot = payload(page())
    assert hot["peak"] == hot["region_peaks"][0]
    cold = payload(page(shown=maps()._replace(heat=Volume(np.zeros(SHAPE, np.float32), AFFINE))))
    assert cold["peak"] == [size // 2 for size in cold["shape"]]


def test_ct_is_kept_in_steps_of_one_hounsfield_unit_and_offers_windows():
    data = np.linspace(-1100, 3000, np.prod(SHAPE)).reshape(SHAPE).round()
    text = page(shown=maps(data))
    wanted = np.clip(Volume(data, AFFINE).canonical().data, -1024, None)
    np.testing.assert_array_equal(voxels(payload(text), "scan"), wanted)
    assert 'value="-600,1500"' in text
    assert "HU</option>" not in page()


def test_a_score_of_next_to_nothing_has_no_sign():
    assert "<strong>0.00</strong>" in page(row(score=-0.001))


def test_ct_opens_in_the_window_of_the_model():
    masked = np.linspace(0, 80, np.prod(SHAPE)).reshape(SHAPE)  # without air it looks like MRI
    text = page(shown=maps(masked), windows=[[-20.0, 100.0]])
    assert payload(text)["first_window"] == [-20.0, 100.0]
    assert payload(text)["unit"] == " HU"
    assert '<option value="40,120">the model&#39;s 40/120 HU</option>' in text
    assert "input is clipped to \N{MINUS SIGN}20 to 100 HU" in text
    named = page(shown=maps(masked), windows=[WINDOWS["lung"], WINDOWS["bone"]])
    assert "the model&#39;s" not in named
    both = "-1350 to 150 and -500 to 1300 HU".replace("-", "\N{MINUS SIGN}")
    assert f"input is clipped to {both}" in named
    for low, high in WINDOWS.values():
        assert f'value="{(low + high) / 2:g},{high - low:g}"' in named
    plain = payload(page())
    assert plain["first_window"] == plain["window"]
    assert plain["unit"] == ""


def test_a_known_lesion_can_be_outlined():
    lesion = np.zeros(SHAPE, np.float32)
    lesion[3:5, 4:6, 2:4] = 1
    text = page(shown=maps(lesion=lesion))
    assert voxels(payload(text), "lesion").sum() == lesion.sum()
    assert 'id="lesion"' in text
    assert 'id="lesion"' not in page()


def test_a_scan_too_large_for_a_page_is_shown_coarser_and_where_it_was(monkeypatch):
    assert MOST_VOXELS >= 256**3
    monkeypatch.setattr("medgan.reporting.scan.MOST_VOXELS", 500)
    held, whole = payload(page()), payload_before()
    assert np.prod(held["shape"]) <= 500
    assert voxels(held, "heat").max() == pytest.approx(9.0, abs=0.05)
    fine, coarse = (np.array(h["affine"]) @ [*h["peak"], 1.0] for h in (whole, held))
    assert np.abs(fine - coarse).max() <= np.array(held["spacing"]).max()
    assert "coarser than the scan" in page()


def payload_before():
    """As if nothing was too large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medgan.reporting.scan.MOST_VOXELS", 10**6)
        return payload(page())


def test_names_in_a_page_are_text_and_never_script():
    evil = "</script><script>alert(1)</script>"
    text = page(row(case=evil, explanation=evil), label=evil)
    assert "alert(1)" in text
    assert evil not in text
    assert "<script>alert" not in text
