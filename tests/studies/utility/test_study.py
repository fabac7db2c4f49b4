import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medgan.app.pipeline import run_pipeline
from medgan.core.config import build
from medgan.core.errors import ConfigError, DataError, EnvironmentFailure
from medgan.data.conditions import covariate_of
from medgan.data.manifest import Manifest
from medgan.data.plan import plan
from medgan.studies.utility import classification as classification_module
from medgan.studies.utility import segmentation as segmentation_module
from medgan.studies.utility import subset
from medgan.studies.utility.classification import Classification
from medgan.studies.utility.command import run_command
from medgan.studies.utility.segmentation import Segmentation
from medgan.studies.utility.study import utility
from medgan.studies.utility.task import Arm, Examples
from tests.kit.data_sets import TINY, write_folder

pytestmark = pytest.mark.long

UTILITY = {"sizes": [5], "seeds": 2, "steps": 2, "ratios": [1.0]}
CONFIG = {
    **TINY,
    "data": {**TINY["data"], "fractions": [0.5, 0.05, 0.05, 0.4]},
    "train": {**TINY["train"], "volumes": 8},
    "utility": UTILITY,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of segmentation on tiny scans, done once, and how to go on with it."""
    folder = tmp_path_factory.mktemp("utility")
    home = pytest.MonkeyPatch()
    home.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    source = write_folder(folder / "scans", 20)
    pipeline = folder / "utility.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "utility"], "config": CONFIG}))

    def run(*more):
        return (
            run_pipeline(str(pipeline), [f"data.source={source}", f"out={folder / 'out'}", *more])
            .results["utility"]
            .values
        )

    yield folder / "out", run, run()
    home.undo()


@pytest.fixture
def same_site(made, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made[0].parent / "home"))


def test_every_arm_has_its_metrics_and_its_difference_from_classical_augmentation(made):
    out, _, result = made
    assert [row["arm"] for row in result["rows"]] == [
        "real", "classical", "synthetic", "mixed 1", "all 1",
    ]  # fmt: skip
    for row in result["rows"]:
        dice = row["metrics"]["Dice"]
        assert len(dice["seeds"]) == 2
        assert dice["mean"] == pytest.approx(np.mean(dice["seeds"]), abs=1e-4)
        assert ("difference" in dice) == (row["arm"] != "classical")
    assert json.loads((out / "utility.json").read_text())["rows"] == result["rows"]
    assert result["protocol"]["test_scans"] == 8


def test_the_page_holds_the_charts_and_no_name_of_a_subject(made):
    page = (made[0] / "utility.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "person-" not in page
    assert "all 1 was" in page


def test_a_generator_is_trained_on_its_subset_alone(made):
    out, _, _ = made
    manifest = Manifest.load(out / "manifest.json")
    trained = {}
    for name in ("005-0", "005-1"):
        card = json.loads((out / "generators" / name / "model" / "config.json").read_text())
        trained[name] = card["facts"]["training_scans"]
    assert trained == {"005-0": 5, "005-1": 5}
    assert len(manifest.split("train")) == 10


def test_what_is_done_is_not_done_again_and_more_can_be_asked_for(made, same_site, monkeypatch):
    _, run, first = made
    assert run()["rows"] == first["rows"]

    def never(*arguments):
        raise AssertionError("a generator is trained again")

    monkeypatch.setattr(subset, "train_model", never)
    more = run("utility.arms=[real, classical]", "utility.seeds=1")
    assert (
        more["rows"][0]["metrics"]["Dice"]["seeds"]
        == first["rows"][0]["metrics"]["Dice"]["seeds"][:1]
    )
    with pytest.raises(AssertionError, match="trained again"):
        run("utility.ratios=[2.0]")


def test_scans_that_cannot_be_prepared_are_left_out_of_every_part(made, same_site, tmp_path):
    manifest, refused = Manifest.load(made[0] / "manifest.json"), []
    gone = {manifest.split(split)[0].case for split in ("train", "test")}
    absent = {"images": {"image": str(tmp_path / "absent.nii.gz")}, "hashes": {"image": "0" * 64}}
    cases = (replace(c, **absent) if c.case in gone else c for c in manifest.cases)
    manifest = replace(manifest, cases=tuple(cases))
    config = build(
        CONFIG, ["utility.sizes=[9]", "utility.seeds=1", "utility.arms=[real,classical]"]
    )
    result = utility(manifest, tmp_path, config, {}, refused.extend)
    assert {refusal.case for refusal in refused} == gone
    assert result["protocol"]["test_scans"] == 7
    assert result["protocol"]["data_digest"] == manifest.digest
    config = build(CONFIG, ["utility.sizes=[10]"])
    with pytest.raises(DataError, match="E_SPLIT 9 labelled training scans"):
        utility(manifest, tmp_path, config, {}, refused.extend)


def test_without_classical_augmentation_there_is_nothing_to_compare_with(made, same_site):
    with pytest.raises(ConfigError, match="classical is missing"):
        made[1]("utility.arms=[real, all]")


def test_synthetic_scans_can_come_first_with_the_label_maps_of_a_network(
    made, same_site, monkeypatch
):
    learned, labelled = [], []
    train, segment = segmentation_module.train_segmenter, segmentation_module.segment

    def training(images, classes, labels, steps, *rest, **options):
        learned.append((images, classes, steps, options.get("network")))
        return train(images, classes, labels, steps, *rest, **options)

    def segmenting(network, images):
        labelled.append((images, segment(network, images)))
        return labelled[-1][1]

    monkeypatch.setattr(segmentation_module, "train_segmenter", training)
    monkeypatch.setattr(segmentation_module, "segment", segmenting)
    result = made[1]("utility.arms=[classical, first]", "utility.relabel=true", "utility.seeds=1")
    assert [row["arm"] for row in result["rows"]] == ["classical", "first 1"]
    teacher, before, after = learned
    assert [steps for _, _, steps, _ in learned] == [2, 1, 1]
    assert teacher[3] is None
    assert before[3] is None
    assert after[3] is not None
    assert torch.equal(teacher[0], after[0])  # the real scans
    assert not torch.equal(before[0], after[0])
    images, classes = labelled[0]  # the synthetic scans; then come those of the test
    assert torch.equal(images, before[0])
    assert torch.equal(classes, before[1])


@pytest.mark.slow
def test_networks_are_tested_on_scans_of_changed_contrast(made, same_site):
    arms = ["utility.arms=[strong, generated]", "utility.seeds=1"]
    result = made[1]("utility.task=contrast", *arms)
    assert [row["arm"] for row in result["rows"]] == ["strong", "generated 1"]
    assert [row["synthetic"] for row in result["rows"]] == [False, True]
    for row in result["rows"]:
        values = {name: metric["mean"] for name, metric in row["metrics"].items()}
        assert values.pop("Dice") == pytest.approx(np.mean(list(values.values())), abs=1e-3)
        assert len(set(values.values())) > 1
        assert ("difference" in row["metrics"]["inverted"]) == row["synthetic"]


@pytest.mark.parametrize(
    "other", [{"task": "classification"}, {"command": "train {data} {result}"}]
)
def test_label_maps_of_a_network_are_for_segmentations_by_the_unet(other):
    with pytest.raises(ConfigError, match="relabel"):
        build({"utility": {"relabel": True, **other}})


def test_more_scans_than_there_are_cannot_be_drawn(made, same_site):
    with pytest.raises(DataError, match="11 are needed"):
        made[1]("utility.sizes=[11]")


@pytest.fixture
def cases(made):
    """Forty cases, of which the older half are a quarter."""
    found = Manifest.load(made[0] / "manifest.json").cases
    ages = ["70" if n % 4 == 0 else "30" for n in range(40)]
    return [
        replace(found[n % len(found)], hashes={"image": f"{n:064d}"}, covariates={"age": age})
        for n, age in enumerate(ages)
    ]


def classification(cases, **settings):
    config = build(
        {
            "data": {"spacing": [2, 2, 2], "shape": [16, 16, 16],
                     "conditions": {"age": "continuous"}},
            "utility": {"task": "classification", "target": "age", "rare": "above 50", **settings},
        }
    )  # fmt: skip
    return Classification(cases, plan(config.data, cases), config.utility)


def test_a_subset_has_the_requested_share_of_the_rare_group_and_grows(cases):
    task = classification(cases, share=0.2)
    small, large = task.sample(10, 0), task.sample(20, 0)
    old = [case for case in small if covariate_of(case, "age") == "70"]
    assert len(old) == 2
    assert {case.sha256 for case in small} <= {case.sha256 for case in large}
    assert task.sample(10, 1) != small


def test_synthetic_scans_fill_up_the_rare_group_and_are_of_both_groups(cases):
    task = classification(cases, share=0.2)
    requests = task.requests(task.sample(10, 0), 1.0, 0)
    assert requests == [{"age": "70"}] * 6 + [{"age": "30"}] * 6
    made = task.synthetic(torch.zeros(12, 1, 16, 16, 16), None, requests)
    assert made.targets.tolist() == [1] * 6 + [0] * 6


def test_real_and_synthetic_scans_of_both_groups_are_drawn_equally_often(cases, monkeypatch):
    task = classification(cases, share=0.2)
    given = []
    monkeypatch.setattr(
        classification_module,
        "train_classifier",
        lambda *a, **options: given.append(options) or torch.nn.Identity(),
    )
    images = torch.zeros(10, 1, 16, 16, 16)
    real = Examples(images, torch.tensor([0] * 8 + [1] * 2))
    synthetic = Examples(images, torch.tensor([1] * 5 + [0] * 5))
    task.train([real, synthetic], Arm("all 1", balanced=True), 0)
    kinds = torch.tensor([0] * 8 + [1] * 2 + [3] * 5 + [2] * 5)
    mass = torch.zeros(4).index_add(0, kinds, given[0]["weights"])
    assert mass.tolist() == pytest.approx([1, 1, 1, 1])
    task.train([real], Arm("classical"), 0)
    assert given[1]["weights"] is None


def test_the_rare_group_can_lie_below_a_value(cases):
    young = classification(cases, share=0.5, rare="below 50").sample(4, 0)
    assert [covariate_of(case, "age") for case in young] == ["70", "70", "30", "30"]


def test_scans_between_the_groups_are_of_neither(cases):
    between = [replace(case, covariates={"age": "50"}) for case in cases[:4]]
    task = classification([*cases, *between], share=0.5, frequent="below 50")
    assert task.groups(task.sample(20, 0)).tolist() == [0] * 10 + [1] * 10
    with pytest.raises(DataError, match="30 training scans of the frequent group"):
        task.sample(80, 0)


def test_a_target_that_is_no_condition_is_refused(cases):
    with pytest.raises(ConfigError, match="is no condition"):
        classification(cases, target="sex")


def test_subsets_do_not_depend_on_the_order_of_the_files(made):
    found = [c for c in Manifest.load(made[0] / "manifest.json").cases if c.label]
    config = build(CONFIG)
    grid = plan(config.data, found)
    there, back = (Segmentation(cases, grid, config.utility) for cases in (found, found[::-1]))
    assert there.sample(5, 3) == back.sample(5, 3)


TRAINER = """
import json, sys
from pathlib import Path
data, result, seed = sys.argv[1:]
lists = json.loads((Path(data) / "dataset.json").read_text())
synthetic = sum(entry["synthetic"] for entry in lists["training"])
assert all((Path(data) / e[k]).is_file() for e in lists["training"] for k in ("image", "label"))
assert len(lists["test"]) == 8 and "label" in lists["test"][0]
print("hello")
metrics = [0.5 + 0.01 * synthetic + 0.001 * n for n in range(len(lists["test"]))]
Path(result).write_text(json.dumps({"Dice": metrics, "scans": [len(lists["training"])] * 8}))
"""


@pytest.fixture
def trainer(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(TRAINER)
    return f"utility.command={sys.executable} {path} {{data}} {{result}} {{seed}}"


def test_a_command_of_the_user_trains_on_a_data_folder_and_is_compared_with_itself(
    made, same_site, trainer
):
    out, run, _ = made
    result = run(trainer)
    metrics = {row["arm"]: row["metrics"] for row in result["rows"]}
    assert {arm: of["scans"]["mean"] for arm, of in metrics.items()} == {
        "real": 5, "synthetic": 5, "mixed 1": 10,
    }  # fmt: skip
    gap = metrics["mixed 1"]["Dice"]["difference"]
    assert gap["value"] == pytest.approx(0.05)
    assert "difference" not in metrics["real"]["Dice"]
    assert (out / "commands" / "005-0-real" / "log.txt").read_text() == "hello\n"
    assert not list(out.glob("commands/*/data"))


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("train {data}", "has no"),
        ("train {data} {result} {gpu}", "has no"),
        ("false {data} {result}", "ended with status 1"),
        ("true {data} {result}", "wrote no metrics"),
        ("echo {data}; echo nonsense > {result}", "wrote no metrics"),
        (
            """echo {data} > /dev/null; printf '{{"Dice": [1, NaN]}}' > {result}""",
            "wrote no metrics",
        ),
        ("""echo {data}; printf '{{"Dice": []}}' > {result}""", "a list of 8 numbers"),
        ("""echo {data}; printf '{{"Dice": [0.5, 0.6]}}' > {result}""", "a list of 8 numbers"),
    ],
)
def test_a_command_that_does_not_work_is_named(made, same_site, command, what):
    with pytest.raises((ConfigError, EnvironmentFailure), match=what):
        made[1](f"utility.command={json.dumps(command)}")


def by_arm(mixed: str, real: str) -> str:
    """A command that leaves the one where there are synthetic scans, and the other elsewhere."""
    seen = "grep -q 'synthetic.: true' {data}/dataset.json"
    left = (f"echo '{text}' > {{result}}" for text in (mixed, real))
    command = f"{seen} && {next(left)} || {next(left)}".replace('{"', '{{"').replace("}'", "}}'")
    return f"utility.command={json.dumps(command)}"


def test_metrics_of_a_command_are_matched_by_name_not_by_order(made, same_site):
    command = by_arm('{"HD": 0.1, "Dice": 0.9}', '{"Dice": 0.8, "HD": 0.3}')
    result = made[1](command, "utility.arms=[real, mixed]", "utility.seeds=1")
    real, mixed = (row["metrics"] for row in result["rows"])
    assert (real["Dice"]["mean"], real["HD"]["mean"]) == (0.8, 0.3)
    assert (mixed["Dice"]["mean"], mixed["HD"]["mean"]) == (0.9, 0.1)


@pytest.mark.parametrize(
    ("mixed", "message"),
    [
        ('{"IoU": 0.9}', "left 1 of IoU for mixed 1, and 1 of Dice before"),
        (f'{{"Dice": {[0.9] * 8}}}', "left 8 of Dice for mixed 1, and 1 of Dice before"),
    ],
)
def test_arms_with_other_metrics_are_not_compared(made, same_site, mixed, message):
    arms = ["utility.arms=[real, mixed]", "utility.seeds=1"]
    with pytest.raises(EnvironmentFailure, match=message):
        made[1](by_arm(mixed, '{"Dice": 0.8}'), *arms)


def test_an_interruption_stops_the_command_and_its_child_processes(tmp_path, monkeypatch):
    def stop(process, timeout=None):
        if timeout is None and not (tmp_path / "asked").exists():
            while not (tmp_path / "pid").exists():
                time.sleep(0.01)
            (tmp_path / "asked").touch()
            raise KeyboardInterrupt
        return wait(process, timeout)

    wait = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", stop)
    command = f"sleep 100 & echo $! > {tmp_path}/pid; wait; echo {{data}} {{result}}"
    with pytest.raises(KeyboardInterrupt):
        run_command(command, tmp_path, tmp_path, 0, 1)
    grandchild = int((tmp_path / "pid").read_text())
    for _ in range(200):
        state = Path(f"/proc/{grandchild}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("still running")
