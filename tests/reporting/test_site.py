import csv
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pytest

from medgan.core.config import ScoreConfig
from medgan.core.errors import ConfigError, DataError
from medgan.core.volume import Volume
from medgan.data.manifest import Manifest
from medgan.reporting.scores import scores_page
from medgan.reporting.site import write_report
from medgan.workflows.score import score_cases
from tests.kit.models import make_model
from tests.kit.pages import EVIL, WITHOUT_PAGE
from tests.kit.volumes import AFFINE, ball


def pages(scored):
    found = {path.name: path.read_text() for path in scored.page.parent.rglob("*.html")}
    assert len(found) == 1 + len(scored.rows) - WITHOUT_PAGE
    return found


def test_links_lead_to_files_of_the_report_and_nothing_comes_from_elsewhere(scored):
    for path in scored.page.parent.rglob("*.html"):
        text = path.read_text()
        links = re.findall(r"""href=["']([^"']+)""", text)
        assert links
        for link in links:
            assert (path.parent / unquote(unescape(link))).is_file(), link
        assert not re.findall(r"""src=["'](?!data:)""", text)
        assert "http" not in re.sub(r'base64,[A-Za-z0-9+/=]+|"data": *"[^"]+"|http-equiv', "", text)


def test_niivue_lies_beside_the_pages_with_its_licence(scored):
    beside = scored.page.parent / "niivue"
    assert "BSD 2-Clause" in (beside / "LICENSE.txt").read_text()
    assert (beside / "niivue.umd.js").stat().st_size > 1_000_000


def test_the_page_of_scores_shows_flagged_scans_first_and_incomparable_ones_apart(scored):
    text = scored.page.read_text()
    order = re.findall(r'<tr class="(\w+)"', text)
    assert len(order) == len(scored.rows)
    assert order == sorted(order, key=["flagged", "plain", "incomparable"].index)
    assert {"flagged", "incomparable"} <= set(order)
    assert "E_READ" in text
    assert "Area under the ROC curve" in text
    assert "Research use only" in text


def test_both_pages_say_where_the_highest_region_lies(scored):
    with (scored.folder / "scores" / "regions.csv").open() as file:
        regions = [row for row in csv.DictReader(file) if row["region"] == "1"]
    comparable = {row["case"] for row in scored.rows if row["comparable"]}
    places = [row["place"] for row in regions if row["case"] in comparable]
    assert places
    for place in places:
        assert "part of the scan: " in place
        assert f"Highest: {place}." in scored.page.read_text()


def test_a_scan_that_is_not_comparable_has_no_place_among_the_scores(scored):
    text = scored.page.read_text()
    (odd,) = (row for row in scored.rows if not row["comparable"])
    sortable, apart = text.split('<table id="incomparable"')
    assert odd["case"] not in sortable
    assert odd["explanation"] in apart
    assert f"{odd['score']:.2f}" not in apart
    assert text.count('<circle class="dot') == len(scored.rows) - 1


def scored_rows(*rows):
    """Columns of scores.json for (case, score, comparable)."""
    return [
        {"case": case, "subject": case, "healthy": None, "score": score, "alarm": None,
         "p_value": 0.5 if comparable else None, "q_value": 0.5 if comparable else None,
         "comparable": comparable, "explanation": "why", "flagged": False, "regions_found": [],
         "page": "", "thumbnail": {}}
        for case, score, comparable in rows
    ]  # fmt: skip


def test_scores_that_mean_nothing_stretch_no_axis_and_have_no_neighbours_among_others():
    usual, strange = ("c-1", 1.0, True), ("c-2", 900.0, False)
    calibration = {"scores": [0.0, 1.0, 2.0], "rate": 0.05, "limit": None}
    pages = [
        scores_page({"model": {}}, scored_rows(*rows), calibration, [], False)
        for rows in ([usual], [usual, strange])
    ]
    plots = [re.search(r"<svg.*?</svg>", page, re.DOTALL) for page in pages]
    assert plots[0]
    assert plots[1]
    assert plots[0][0] == plots[1][0]
    assert "without p-value: 1." in pages[1]


def test_pages_lead_to_pages_of_the_same_group_alone(scored):
    last = [row["case"] for row in scored.rows if row["comparable"]][-1]
    text = (scored.page.parent / "scans" / f"{last}.html").read_text()
    assert 'rel="prev">Higher score' in text
    assert 'rel="next"' not in text


def test_names_are_text_wherever_they_come_from(scored):
    for text in pages(scored).values():
        assert "<img src=x" not in text
        assert "<b>bold" not in text
        assert "<i>read" not in text
    assert "c-&lt;b&gt;bold" in scored.page.read_text()
    assert (scored.page.parent / "scans" / f"{EVIL}.html").is_file()


def test_every_image_has_a_text_for_screen_readers(scored):
    for text in pages(scored).values():
        for picture in re.findall(r"<(?:img|svg|canvas) [^>]*>", text):
            words = re.search(r'(?:alt|aria-label|aria-roledescription)="([^"]{10,})"', picture)
            assert words or "aria-hidden" in picture, picture
        headings = [int(level) for level in re.findall(r"<h(\d)", text)]
        assert headings[0] == 1
        assert all(b - a <= 1 for a, b in pairwise(headings))
        assert '<html lang="en">' in text
        fields = re.findall(r'<(?:input|select) [^>]*id="([^"]+)"[^>]*>', text)
        for name in fields:
            field = re.search(rf'<[^>]*id="{name}"[^>]*>', text)
            assert field
            labelled = f'for="{name}"' in text or "aria-label" in field[0]
            assert labelled or re.search(rf'<label><input[^>]*id="{name}"', text), name


def test_the_pages_name_no_person_and_no_file(scored):
    for text in pages(scored).values():
        for secret in ("person-", "sick", "inverted", "mustermann", "lesion_mask", "/tmp"):
            assert secret not in text


def test_fewer_pages_take_the_old_ones_away_and_none_leaves_the_table(scored, tmp_path):
    for name in ("manifest.json", "refused.csv"):
        (tmp_path / name).write_bytes((scored.folder / name).read_bytes())
    (tmp_path / "scores").symlink_to(scored.folder / "scores")
    write_report(tmp_path, 2)
    assert len(list((tmp_path / "report" / "scans").glob("*.html"))) == 2
    text = write_report(tmp_path, 0).read_text()
    assert not list((tmp_path / "report" / "scans").glob("*.html"))
    assert text.count("<tr class=") == len(scored.rows)
    assert "href=" not in text


def test_comparable_rows_come_highest_score_first_the_others_by_name_and_are_the_csv(scored):
    comparable = [row["score"] for row in scored.rows if row["comparable"]]
    assert comparable == sorted(comparable, reverse=True)
    assert [row["comparable"] for row in scored.rows][: len(comparable)] == [True] * len(comparable)
    with (scored.folder / "scores" / "scores.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == [r["case"] for r in scored.rows]


def test_tables_hold_what_the_maps_show(scored):
    with (scored.folder / "scores" / "regions.csv").open() as file:
        regions = list(csv.DictReader(file))
    for row in scored.rows:
        numbers = Volume.load(scored.folder / "scores" / row["regions"]).data
        mine = [r for r in regions if r["case"] == row["case"]]
        assert [int(r["region"]) for r in mine] == list(range(1, len(mine) + 1))
        assert numbers.max() == len(mine)
        sizes = [float(r["volume_mm3"]) for r in mine]
        assert sizes == pytest.approx([8.0 * (numbers == n + 1).sum() for n in range(len(mine))])
    assert regions


def test_q_values_are_no_smaller_than_p_values_and_alarms_come_at_the_asked_rate(scored, tmp_path):
    comparable = [row for row in scored.rows if row["comparable"]]
    assert all(row["q_value"] >= row["p_value"] for row in comparable)
    assert all(row["alarm"] is None for row in scored.rows)
    manifest, model = Manifest.load(scored.folder / "manifest.json"), make_model()
    rng = np.random.default_rng(1)
    model.calibrate([Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(8)])
    settings = ScoreConfig.model_validate({"false_alarms": 0.25})
    again, _ = score_cases(model, manifest.cases[:3], tmp_path, settings)
    assert all(row["alarm"] == (row["p_value"] <= 0.25) for row in again if row["comparable"])
    few = ScoreConfig.model_validate({"false_alarms": 0.05})
    with pytest.raises(DataError, match="needs 19"):
        score_cases(model, manifest.cases, tmp_path, few)


def test_a_score_equal_to_that_of_calibration_scans_is_an_alarm_by_its_p_value_alone(
    scored, tmp_path
):
    """Two of five calibration scans score as the scan does: p is 3 / 6."""
    case, model = Manifest.load(scored.folder / "manifest.json").cases[1], make_model()
    rng = np.random.default_rng(1)
    model.calibrate([Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(8)])
    known = model.calibration
    assert known is not None
    score = model.score(case.image).score
    below = (score - 3, score - 2, score - 1)
    model.calibration = replace(known, scores=(*below, score, score), reference=None)
    for rate, alarm in ((0.34, False), (0.49999, False), (0.5, True)):
        (tmp_path / "manifest.json").write_bytes((scored.folder / "manifest.json").read_bytes())
        settings = ScoreConfig.model_validate({"false_alarms": rate})
        (row,), _ = score_cases(model, [case], tmp_path / "scores", settings)
        assert row["p_value"] == 0.5
        assert row["alarm"] is alarm
        page = write_report(tmp_path, 1).read_text()
        assert ('data-state="flagged"' in page) == alarm


def test_p_values_are_not_rounded_before_they_are_compared(scored, tmp_path):
    """2 / 3 is at most 0.666667, its first five digits, 0.66667, are not."""
    case, model = Manifest.load(scored.folder / "manifest.json").cases[1], make_model()
    rng = np.random.default_rng(1)
    model.calibrate([Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(8)])
    assert model.calibration is not None
    score = model.score(case.image).score
    scores = (score - 2, score - 1, score + 1, score + 2, score + 3)
    model.calibration = replace(model.calibration, scores=scores, reference=None)
    settings = ScoreConfig.model_validate({"false_alarms": 0.666667})
    (row,), _ = score_cases(model, [case], tmp_path, settings)
    assert row["p_value"] == pytest.approx(2 / 3)
    assert row["alarm"] is True


def test_a_folder_with_nothing_in_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="E_MISSING"):
        write_report(tmp_path, 3)
