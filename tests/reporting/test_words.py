import re

import pytest
from nibabel.nifti1 import Nifti1Header

from medgan.anomaly.scorers import SCORERS as ALL
from medgan.core.volume import Volume
from medgan.reporting.words import SCORERS, contrast, drivers, rarity
from tests.kit.pages import maps, page, regions, row


def test_every_scorer_has_words():
    assert set(SCORERS) == set(ALL)


def test_scorers_come_highest_first_and_other_columns_are_none():
    found = drivers({"case": "c", "score": 9.0, "density": 1.0, "darker": 4.0})
    assert [(one.name, one.score) for one in found] == [("darker", 4.0), ("density", 1.0)]


@pytest.mark.parametrize(
    ("higher", "text"),
    [(0, "none of 40"), (1, "1 of 40 healthy scans scores "), (7, "7 of 40 healthy scans score ")],
)
def test_rarity_counts_the_healthy_scans_that_score_as_high(higher, text):
    assert rarity((1 + higher) / 41, 40).startswith(text)


def test_contrast_says_darker_or_brighter_or_neither_or_nothing():
    assert contrast({"found": "50", "expected": "90"}, 400.0).startswith(
        "darker than expected, 50 "
    )
    assert contrast({"found": "0.9", "expected": "0.5"}, 1.0).startswith("brighter")
    assert contrast({"found": "91", "expected": "90"}, 400.0) == "as bright as expected"
    assert contrast({"found": "", "expected": ""}, 400.0) == contrast({}, 400.0) == ""


def test_a_page_says_how_rare_what_drove_it_and_where():
    scored = row(p_value=1 / 4, density=4.0, darker=1.5)
    found = [one | {"place": "left, front", "found": "5", "expected": "60"} for one in
             regions((3, 4, 2))]  # fmt: skip
    text = page(scored, places=found)
    words = re.search(r'<dl id="words">.*?</dl>', text, re.DOTALL)
    assert words
    assert "none of 3 healthy scans scores as high" in words[0]
    assert "<strong>density</strong> (brightness or texture unusual for the place), 4.0" in words[0]
    assert "left, front; darker than expected, 5 instead of 60" in words[0]
    assert text.count('class="share"><i') == 2
    assert "It is not this" in page(scored, counterpart="mean")
    assert "It is not this" not in text


@pytest.mark.parametrize(("code", "guessed"), [(0, True), (1, False)])
def test_a_page_says_when_left_and_right_are_a_guess(code, guessed):
    header = Nifti1Header()
    header["qform_code"] = code
    shown = maps()
    scan = Volume(shown.scan.data, shown.scan.affine, header)
    assert ("are a guess" in page(shown=shown._replace(scan=scan))) == guessed


def test_a_page_without_p_value_says_neither_how_rare_nor_what_drove_it():
    text = page(row(p_value=None, comparable=False, flagged=False, density=4.0))
    assert "healthy scans score" not in text
    assert "What drove" not in text
