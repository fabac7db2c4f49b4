import csv
import re

import numpy as np
import pytest

from medgan.cohort import score_cases
from medgan.config import ScoreConfig
from medgan.data.index import index
from medgan.data.manifest import Manifest
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import with_health
from medgan.errors import DataError
from medgan.report.page import write_page
from medgan.volume import Volume
from tests.builders import SIZE, ball, tiny_config, write_folder
from tests.test_model import make_model


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder with scores of five healthy scans and one with a planted lesion."""
    folder = tmp_path_factory.mktemp("report")
    source = write_folder(folder / "scans", 5)
    rng = np.random.default_rng(7)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    data, mask = ball(rng), np.zeros(SIZE, np.uint8)
    mask[3:7, 3:7, 3:7] = 1
    data[mask > 0] = 140
    Volume(data.astype(np.float32), affine).save(source / "sick.nii.gz")
    Volume(mask, affine).save(folder / "lesion.nii.gz")
    table = folder / "cohort.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "diagnosis", "lesion_mask"))
        for number in range(5):
            writer.writerow((f"scans/person-{number:02d}.nii.gz", "healthy", ""))
        writer.writerow(("scans/sick.nii.gz", "lesion", "lesion.nii.gz"))
    manifest, _ = index(table, Pseudonyms(b"x"))
    manifest = with_health(manifest, {"diagnosis": ["healthy"]})
    manifest.save(folder / "manifest.json")
    model = make_model()
    rng = np.random.default_rng(1)
    model.calibrate([Volume(ball(rng).astype(np.float32), affine) for _ in range(8)])
    rows, refusals = score_cases(model, manifest.cases, folder / "scores", health_is_known=True)
    assert not refusals
    return folder, write_page(folder, 3).read_text(), rows


def test_the_page_needs_nothing_but_itself(scored):
    folder, page, rows = scored
    assert not re.findall(r"""src=["'](?!data:)""", page)
    links = re.findall(r"""href=["']([^"']+)""", page)
    assert len(links) == len(rows)
    assert all((folder / link).is_file() for link in links)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "<script" not in page


def test_the_page_shows_every_score_and_pictures_of_the_highest(scored):
    _, page, rows = scored
    assert all(row["case"] in page for row in rows)
    assert page.count("<figure>") == 3
    assert "area under the ROC curve" in page
    assert "Research use only" in page


def test_every_picture_has_a_text_for_those_who_cannot_see_it(scored):
    _, page, _ = scored
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == 3
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)


def test_the_page_names_no_person_and_no_file(scored):
    _, page, _ = scored
    assert "person-" not in page
    assert "sick" not in page


def test_rows_come_highest_score_first_and_are_the_csv(scored):
    folder, _, rows = scored
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    with (folder / "scores" / "scores.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == [row["case"] for row in rows]


def test_tables_hold_what_the_maps_show(scored):
    folder, _, rows = scored
    with (folder / "scores" / "regions.csv").open() as file:
        regions = list(csv.DictReader(file))
    for row in rows:
        numbers = Volume.load(folder / "scores" / row["regions"]).data
        mine = [r for r in regions if r["case"] == row["case"]]
        assert [int(r["region"]) for r in mine] == list(range(1, len(mine) + 1))
        assert numbers.max() == len(mine)
        sizes = [float(r["volume_mm3"]) for r in mine]
        assert sizes == pytest.approx([8.0 * (numbers == n + 1).sum() for n in range(len(mine))])
    assert regions


def test_q_values_are_no_smaller_than_p_values_and_alarms_come_at_the_asked_rate(scored, tmp_path):
    folder, _, rows = scored
    assert all(row["q_value"] >= row["p_value"] for row in rows if row["comparable"])
    assert all(row["alarm"] is None for row in rows)
    manifest, model = Manifest.load(folder / "manifest.json"), make_model()
    rng = np.random.default_rng(1)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    model.calibrate([Volume(ball(rng).astype(np.float32), affine) for _ in range(8)])
    settings = ScoreConfig.model_validate({"false_alarms": 0.25, "pages": False})
    again, _ = score_cases(model, manifest.cases, tmp_path, settings)
    assert all(row["alarm"] == (row["p_value"] <= 0.25) for row in again if row["comparable"])
    assert not (tmp_path / "pages").exists()
    few = ScoreConfig.model_validate({"false_alarms": 0.05})
    with pytest.raises(DataError, match="needs 19"):
        score_cases(model, manifest.cases, tmp_path, few)


def test_a_folder_with_nothing_in_it_gives_a_page_that_says_nothing_wrong(tmp_path):
    page = write_page(tmp_path, tiny_config(tmp_path).report.scans).read_text()
    assert "<h2>" not in page
