import itertools
import json

import pytest
import torch
import yaml

from medgan.app.pipeline import run_pipeline
from medgan.core.config import build
from medgan.core.errors import ConfigError, DataError
from medgan.studies.convergence import curves
from medgan.studies.convergence.curves import Point, Training, followed, reached, row, table
from medgan.studies.convergence.study import _soonest
from tests.kit.data_sets import TINY, write_folder

CPU = torch.device("cpu")
SETTINGS = {
    "generators": ["medgan", "vae"],
    "goals": [1000.0, 1e-9],
    "minutes": 1e-4,
    "factor": 1,
}


@pytest.fixture
def pipeline(tmp_path):
    """A function that runs the study, with some of its settings changed, on tiny scans."""
    source = write_folder(tmp_path / "scans", 24)
    data = {**TINY["data"], "fractions": [0.5, 0.1, 0.2, 0.2]}

    def run(**changed):
        config = {**TINY, "data": data, "convergence": SETTINGS | changed}
        path = tmp_path / "convergence.yaml"
        path.write_text(yaml.safe_dump({"steps": ["index", "convergence"], "config": config}))
        done = run_pipeline(str(path), [f"data.source={source}", f"out={tmp_path / 'out'}"])
        return done, tmp_path / "out"

    return run


def test_all_generators_are_measured_and_what_was_measured_is_not_run_again(pipeline):
    _, out = pipeline()
    found = json.loads((out / "convergence.json").read_text())
    assert [one["name"] for one in found["rows"]] == ["medgan", "vae"]
    for one in found["rows"]:
        assert one["minutes"]["1000.0"] == [one["trained_minutes"][0]]
        assert one["minutes"]["1e-09"] == [None]
        assert one["volumes"][0] > 0
    assert (out / "convergence.png").read_bytes().startswith(b"\x89PNG")
    path = out / "curves" / "vae-0.json"
    path.write_text(json.dumps([[1.0, 8, 500.0], [2.0, 16, 400.0]]))
    (out / "convergence.json").unlink()
    pipeline()
    again = json.loads((out / "convergence.json").read_text())
    assert again["curves"]["vae"] == [[[1.0, 8, 500.0], [2.0, 16, 400.0]]]
    assert again["curves"]["medgan"] == found["curves"]["medgan"]


@pytest.mark.slow
def test_a_variant_is_a_training_with_other_settings(pipeline):
    _, out = pipeline(generators=["medgan"], variants={"deeper": ["model.blocks=2"]}, seeds=2)
    found = json.loads((out / "convergence.json").read_text())
    assert [one["name"] for one in found["rows"]] == ["medgan", "deeper"]
    assert all(len(one["volumes"]) == 2 for one in found["rows"])
    values = [curve[0][2] for curve in itertools.chain(*found["curves"].values())]
    assert len(set(values)) == 4


def test_a_variant_on_other_scans_is_refused(pipeline):
    with pytest.raises(ConfigError, match=r"variants\.coarse.*model and train alone"):
        pipeline(variants={"coarse": ["data.spacing=[3,3,3]"]})
    with pytest.raises(ConfigError, match=r"E_KEY"):
        pipeline(variants={"typo": ["train.gama=10"]})


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a b", "ä"])
def test_a_variant_whose_name_would_leave_its_folder_is_refused(pipeline, name):
    with pytest.raises(ConfigError, match="cannot name a file"):
        pipeline(variants={name: ["train.gamma=10"]})


def test_peers_get_the_time_of_the_soonest_recipe_at_the_smallest_goal_that_any_reached():
    config = build({"convergence": {"goals": [1.0, 0.5, 0.3], "minutes": 30}})
    plain = [[Point(4, 1, 0.9), Point(20, 2, 0.45)], [Point(5, 1, 0.8), Point(25, 2, 0.5)]]
    thin = [[Point(3, 1, 0.5)], [Point(9, 1, 0.4)]]
    lucky = [[Point(1, 1, 0.2)], [Point(2, 1, 0.9)]]
    assert _soonest({"medgan": plain, "thin": thin, "lucky": lucky}, config) == 9
    assert _soonest({"medgan": plain, "lucky": lucky}, config) == 25
    assert _soonest({"lucky": lucky}, config) == 2
    assert _soonest({"thin": thin[1:], "medgan": [[]]}, config) == 9
    assert _soonest({"medgan": [[Point(30, 9, 2.0)]]}, config) == 30
    assert _soonest({}, config) == 30


@pytest.mark.slow
def test_peers_are_measured_without_medgan_too(pipeline):
    _, out = pipeline(generators=["vae"], goals=[1000.0])
    found = json.loads((out / "convergence.json").read_text())
    assert [one["name"] for one in found["rows"]] == ["vae"]


def test_too_few_unseen_scans_are_refused(pipeline, monkeypatch):
    monkeypatch.setattr("medgan.studies.convergence.study._FEWEST", {"unseen": 20})
    with pytest.raises(DataError, match="calibration and test"):
        pipeline()


def test_a_training_is_followed_in_processor_time_without_its_evaluations(monkeypatch):
    now = itertools.count()  # every look at the clock is a second
    monkeypatch.setattr(curves, "clock", lambda device: float(next(now)))

    def distance():
        next(now)
        return 1.0

    steps = itertools.count(4, 4)
    points = list(followed(Training(steps, distance), 1.0, CPU))
    assert points[0] == Point(0.5, 120, 1.0)
    assert points[-1] == Point(1.0, 240, 1.0)
    minutes = [point.minutes for point in points]
    assert minutes == sorted(minutes)
    assert all(b <= 1.2 * a for a, b in itertools.pairwise(minutes))


def test_the_first_evaluation_at_a_goal_counts_and_a_miss_says_how_long_it_was_tried():
    fast = [Point(1, 10, 2.0), Point(2, 20, 0.9), Point(3, 30, 1.1), Point(4, 40, 0.4)]
    slow = [Point(5, 10, 2.0), Point(9, 20, 1.5)]
    assert reached(fast, 1.0) == 2
    assert reached(slow, 1.0) is None
    rows = [row("fast", [fast, fast[1:]], [1.0]), row("slow", [slow], [1.0])]
    rows += [row("both", [fast, slow], [1.0])]
    lines = table(rows, [1.0]).splitlines()
    assert lines[0] == "| generator | minutes to 1 | smallest distance | volumes |"
    assert lines[2] == "| fast | 2.0 (2.0 to 2.0) | 0.40 | 40 |"
    assert lines[3] == "| slow | not in 9 | 1.50 | 20 |"
    assert lines[4] == "| both | 2.0, 1 of 2 not | 0.40 | 40 |"
