"""Contrast of what the style sheet names, WCAG 2.2: text 4.5 to 1, what bears meaning 3 to 1."""

import re
from importlib.resources import files

import pytest

TEXT = ("ink", "soft", "mark", "good", "open", "link")
"""What text is written in, plots' too, which the test in a browser leaves out."""
SHAPES = ("edge", "bar", "mark", "link", "open")
"""Borders of fields, and bars and dots of plots."""


def schemes():
    """Colours by name: those of light, and of dark, which replaces all but black tiles."""
    sheet = (files("medgan.reporting") / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", block))
        for block in re.findall(r":root \{ (.*?) \}", sheet, re.DOTALL)[:2]
    )
    assert set(light) - set(dark) == {"tile"}
    return {"light": light, "dark": light | dark}


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = (int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_is_that_of_the_standard():
    assert contrast("#000", "#fff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_shapes_stand_out_from_page_and_card(scheme):
    colours = schemes()[scheme]
    for ground in ("paper", "card"):
        for name in TEXT:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in SHAPES:
        assert contrast(colours[name], colours["paper"]) >= 3, name
