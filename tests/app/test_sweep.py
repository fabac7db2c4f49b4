"""`medgan sweep`: settings checked before, trials that fail or are stopped, and a killed sweep."""

import csv
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from medgan.app.sweep import command, trial
from medgan.app.sweep.command import plan_sweep, run_sweep
from medgan.app.sweep.results import CAUTION
from medgan.app.sweep.space import read_over
from medgan.core.errors import (
    CodedError,
    ConfigError,
    EnvironmentFailure,
    Interrupted,
    TrainingDiverged,
)
from medgan.data.manifest import Manifest
from medgan.tracking.tracker import read_metrics
from tests.kit.command_line import MEDGAN, inside
from tests.kit.data_sets import TINY, write_folder
from tests.kit.ranks import environment

RATES = ("train.learning_rate=1e-4,2e-4,4e-4,8e-4",)


def pipeline_file(folder, steps=("index", "train", "scorers"), **sections):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"steps": list(steps), "config": {**TINY, **sections}}))
    return str(path)


@pytest.fixture
def planned(tmp_path):
    """Plans a sweep of a tiny pipeline."""

    def plan(over=RATES, n=0, *settings, **sections):
        values = {"out": str(tmp_path / "sweep"), "data": {"source": str(tmp_path / "scans")}}
        if over:
            values["sweep"] = {"over": read_over(over), "trials": n}
        return plan_sweep(pipeline_file(tmp_path, **sections), settings, values)

    return plan


@pytest.mark.parametrize(
    ("over", "n", "settings", "code", "about"),
    [
        (("train.r1=1,2",), 0, (), "E_KEY", "train.r1"),
        (("train.gamma=1,none",), 0, (), "E_VALUE", "train.gamma"),
        (("train.gamma=-1:10",), 3, (), "E_VALUE", "train.gamma"),
        (("train.gamma=10:1",), 3, (), "E_VALUE", "sweep.over.train.gamma"),
        (("train.batch=2,3", "train.micro_batch=0,2"), 0, (), "E_VALUE", "together"),
        (("train.gamma=1,1.0",), 0, (), "E_VALUE", "train.gamma"),
        (("train.objective=1:2",), 3, (), "E_VALUE", "train.objective"),
        (("train=1,2",), 0, (), "E_SET", "train"),
        (("train.gamma",), 0, (), "E_SET", "train.gamma"),
        (("train.gamma=[1",), 0, (), "E_YAML", "train.gamma"),
        (("data.shape=[16,16,16],[32,32,32]",), 0, (), "E_SET", "data.shape"),
        (("train.metric=diversity,coverage",), 0, (), "E_SET", "train.metric"),
        (("localiser.volumes=1,2",), 0, (), "E_SET", "localiser.volumes"),
        (RATES, 0, ("localiser.volumes=1",), "E_SET", "localiser.volumes"),
        ((), 0, (), "E_SWEEP", "sweep.over"),
        (("train.gamma=1:10",), 0, (), "E_SWEEP", "sweep.trials"),
        (RATES, 5, (), "E_SWEEP", "sweep.trials"),
        (("train.batch=2:3",), 3, (), "E_SWEEP", "sweep.trials"),
        (("train.gamma=10",), 0, (), "E_SWEEP", "sweep.over"),
    ],
)
def test_what_no_trial_could_use_is_refused_before_anything_is_written(
    over, n, settings, code, about, planned, tmp_path
):
    with pytest.raises(ConfigError) as refused:
        planned(over, n, *settings)
    assert (refused.value.code, about in refused.value.where) == (code, True)
    assert refused.value.remedy
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("verb", ["sweep", "doctor"])
def test_several_processes_are_refused_in_one_line(verb, tmp_path, monkeypatch):
    given = [pipeline_file(tmp_path), "--over", RATES[0]] if verb == "sweep" else []
    words = [verb, *given, "-o", tmp_path / "out"]
    for rank, said in enumerate(
        [
            "medgan: E_RANKS this command: does not share its work among 2 processes; "
            "start it without torchrun",
            "",  # torchrun has started it, too, and it would only say the same
        ]
    ):
        for name, value in environment(rank, 2, 1).items():
            monkeypatch.setenv(name, value)
        done = inside(*words)
        assert (done.returncode, done.stderr.strip()) == (2, said)
    assert not (tmp_path / "out").exists()


def test_a_section_of_the_file_says_the_same_as_options(planned, tmp_path):
    over = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "train.batch": [2, 4]}
    of_file = planned((), sweep={"over": over, "trials": 4})
    of_options = planned(("train.learning_rate=1e-4:1e-2:log", "train.batch=2,4"), 4)
    assert of_file.drawn == of_options.drawn
    with pytest.raises(ConfigError, match=r"E_VALUE sweep.over.train.gamma: write a list"):
        planned((), sweep={"over": {"train.gamma": yaml.safe_load("1:10")}})  # which is 70


def test_the_section_alone_is_enough_and_options_are_laid_over_it(tmp_path):
    section = {"over": {"train.gamma": [1, 2], "train.batch": [2, 4, 8]}, "trials": 4}
    words = ["sweep", pipeline_file(tmp_path, sweep=section), "--dry-run", "--json"]
    for options, count, gammas in (
        ((), 4, {1, 2}),
        (("-n", 5), 5, {1, 2}),
        (("--over", "train.gamma=3", "-n", 3), 3, {3}),
        (("-n", 6), 6, {1, 2}),
    ):
        trials = json.loads(inside(*words, *options).stdout)["trials"]
        assert len(trials) == count
        assert {one["train.gamma"] for one in trials} == gammas


def test_draws_lie_within_their_ranges_and_more_trials_begin_with_the_same(planned):
    over = ("train.learning_rate=1e-4:1e-2:log", "model.latent=4:8", "model.widths=[16,16],[8,8]")
    drawn = planned(over, 40).drawn
    assert planned(over, 5).drawn == drawn[:5]
    rates = [one["train.learning_rate"] for one in drawn]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 10 < sum(rate < 1e-3 for rate in rates) < 30  # as many in each factor of ten
    assert {one["model.latent"] for one in drawn} == {4, 5, 6, 7, 8}
    assert planned(over, 5).space.config(drawn[0]).model.widths in ((16, 16), (8, 8))
    assert planned(over, 5, "sweep.seed=1").drawn != drawn[:5]


def test_without_ranges_every_combination_is_a_trial(planned):
    drawn = planned(("train.gamma=1,2", "train.augment=0,adaptive,0.5")).drawn
    assert [tuple(one.values()) for one in drawn] == [
        (gamma, augment) for gamma in (1, 2) for augment in (0, "adaptive", 0.5)
    ]


def test_pipelines_that_train_by_no_validation_figure_are_refused():
    done = inside("sweep", "brain_anomalies", "--over", "train.gamma=1,2", "--dry-run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "E_SWEEP brain_anomalies" in done.stderr


class Trainings:
    """Stands for the training of a trial: figures of its evaluations, and how it ends."""

    def __init__(self, figures, ends):
        self.figures, self.ends, self.begun = figures, ends, []

    def __call__(self, path, again, follow):
        values = yaml.safe_load((path := trial.Path(path)).read_text())
        assert values["steps"] == ["train"]
        number = int(path.parent.name[-3:])
        self.begun.append(number)
        (path.parent / "metrics.jsonl").write_text("")
        for step, figure in enumerate(self.figures[number], 1):
            row = {"volumes_seen": 4 * step, "samples/kernel_distance": figure}
            with (path.parent / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            follow.picture(path)
        if end := self.ends.pop(number, None):
            raise end
        best = min(self.figures[number])
        result = {"volumes_seen": 16, "best_at": 8, "samples/kernel_distance": best}
        return SimpleNamespace(results={"train": SimpleNamespace(values=result)})


@pytest.fixture
def trained(planned, tmp_path, monkeypatch):
    """Runs a sweep whose trainings are made up; its result, or the error that ended it."""
    write_folder(tmp_path / "scans", 8, labels=False)

    def run(trainings, sweep=None, replace=False):
        monkeypatch.setattr(trial, "run_pipeline", trainings)
        monkeypatch.setattr(trial, "_release", lambda: None)  # takes longer than the rest
        try:
            return run_sweep(sweep or planned(RATES, 0, "train.sample_every=4"), replace)[0]
        except CodedError as error:
            return error

    return run


def test_failed_and_hopeless_trials_are_marked_and_the_others_go_on(trained, tmp_path, planned):
    figures = [[9, 5, 3, 2], [9, 6, 4, 3], [9], [9, 5, 2.5, 1.5], [9, 8, 8, 8], [9, 7, 7, 7]]
    ends = {2: TrainingDiverged("E_NAN", "at 4 volumes", "numbers are not finite", "lower it")}
    trainings = Trainings(figures, ends)
    six = ("train.learning_rate=1e-4,2e-4,4e-4,8e-4,1e-3,2e-3",)
    sweep = planned(six, 0, "train.sample_every=4")
    result = trained(trainings, sweep)
    by_number = {row["trial"]: row for row in result["trials"]}
    states = [by_number[n]["state"] for n in range(6)]
    assert states == ["finished", "finished", "failed", "finished", *["stopped early"] * 2]
    assert by_number[2]["code"] == "E_NAN"
    assert [len(by_number[n]["evaluations"]) for n in range(6)] == [4, 4, 1, 4, 2, 2]
    assert result["best"]["trial"] == 3
    assert [row["trial"] for row in result["trials"][:3]] == [3, 0, 1]
    assert "--set train.learning_rate=0.0008 --set train.seed=1" in result["command"]
    out = tmp_path / "sweep"
    table = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert [row["trial"] for row in table[:3]] == ["3", "0", "1"]
    page = (out / "sweep.html").read_text()
    assert CAUTION.format(n=3) in page
    assert "E_NAN" in page
    assert str(tmp_path) not in page + (out / "sweep.json").read_text()
    rows = [(row["volumes_seen"], row["best/kernel_distance"]) for row in
            read_metrics(out / "metrics.jsonl")]  # fmt: skip
    assert rows == [(1, 2), (2, 2), (4, 1.5)]


def test_a_sweep_goes_on_where_it_was_stopped_and_does_no_trial_twice(trained, planned, tmp_path):
    figures = [[9, 5, 3, 2]] * 6
    ends = {
        1: Interrupted("E_STOPPED", "at 16 volumes", "asked to stop", "again"),
        2: EnvironmentFailure("E_DISK", "metrics.jsonl", "not written (full)", "free some space"),
    }
    trainings = Trainings(figures, ends)
    assert trained(trainings).code == "E_STOPPED"
    assert trained(trainings).code == "E_DISK"
    journal = tmp_path / "sweep" / "study" / "journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 5')  # a kill in the middle of a line
    assert len(trained(trainings)["trials"]) == 4
    assert trainings.begun == [0, 1, 1, 2, 2, 3]
    again = trained(trainings)
    assert [row["state"] for row in again["trials"]] == ["finished"] * 4
    assert len(trainings.begun) == 6
    other = planned(("train.gamma=1,2",), 0, "train.sample_every=4")
    assert trained(trainings, other).code == "E_OUT"
    assert trained(trainings, planned(RATES, 2, "train.sample_every=4")).code == "E_OUT"
    assert len(trained(trainings, other, replace=True)["trials"]) == 2


def test_a_sweep_of_other_scans_is_not_mixed_with_the_first(trained, tmp_path):
    trainings = Trainings([[1, 1, 1, 1]] * 4, {0: Interrupted("E_STOPPED", "at 4", "asked", "on")})
    assert trained(trainings).code == "E_STOPPED"
    (tmp_path / "scans" / "person-00.nii.gz").unlink()
    assert trained(trainings).code == "E_RESUME"


def test_scans_of_another_site_belong_to_the_trials_as_to_a_training(trained, planned, tmp_path):
    wanted = write_folder(tmp_path / "site", 3, labels=False, seed=1)
    for path in wanted.glob("*.nii.gz"):
        path.rename(path.with_name(f"other-{path.name}"))
    settings = ("train.task=harmonisation", "data.patches=true", f"translate.target_data={wanted}")
    assert trained(Trainings([[1]] * 4, {}), planned(RATES, 0, *settings))["best"]
    cases = Manifest.load(tmp_path / "sweep" / "trial-000" / "manifest.json").cases
    assert sum(case.wanted for case in cases) == 3


def test_a_sweep_without_a_finished_trial_says_why(trained):
    failed = {n: TrainingDiverged("E_NAN", "at 4", "not finite", "lower it") for n in range(3)}
    failed[3] = MemoryError()
    error = trained(Trainings([[1]] * 4, failed))
    assert (error.code, error.what) == ("E_SWEEP", "no trial was finished: E_NAN 3, E_MEMORY 1")


def test_without_optuna_the_extra_is_named(planned, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(EnvironmentFailure, match=r"E_EXTRA optuna: .*medgan\[sweep\]"):
        planned()


def test_the_command_trains_two_settings_and_names_the_better(tmp_path):
    scans = write_folder(tmp_path / "scans", 20)
    out = tmp_path / "sweep"
    short = ("train.volumes=4", "train.warmup=0", "train.sample_every=4")
    words = ["sweep", pipeline_file(tmp_path), "--data", scans, "-o", out]
    words += [part for one in short for part in ("--set", one)]
    done = inside(*words, "--over", "train.learning_rate=1e-4,4e-3", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0
    values = [row["value"] for row in result["trials"]]
    assert values == sorted(values)
    assert values[0] != values[1]
    for number in range(2):
        folder = out / f"trial-{number:03d}"
        assert (folder / "model" / "config.json").is_file()
        assert (folder / "report" / "training.html").is_file()
        assert not (folder / "private_key.csv").exists()
    assert f"--data {scans}" in result["command"]
    assert "train.volumes" not in result["command"]


@pytest.mark.slow
def test_a_killed_sweep_ends_like_a_whole_one_and_its_trials_are_children(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    scans = write_folder(tmp_path / "scans", 20)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = ["sweep", pipeline_file(tmp_path), "--data", scans, "--over", "train.gamma=10,50,90"]

    def options(name):
        return ["-o", tmp_path / name, "--set", f"tracking.uri={store}", "--json"]

    whole = json.loads(inside(*words, *options("whole")).stdout)
    killed = subprocess.Popen([*MEDGAN, *map(str, [*words, *options("killed")])])
    while not (tmp_path / "killed" / "trial-001" / "metrics.jsonl").is_file():
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = json.loads(inside(*words, *options("killed")).stdout)
    figures = [{row["trial"]: row["figures"] for row in one["trials"]} for one in (whole, again)]
    assert figures[0] == figures[1]
    client = MlflowClient(store)
    runs = client.search_runs(["1"])
    parent = (tmp_path / "killed" / "mlflow_run.txt").read_text()
    mine = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
    assert sorted(run.info.run_name for run in mine) == ["trial-000", "trial-001", "trial-002"]
    assert {run.data.params["train.gamma"] for run in mine} == {"10.0", "50.0", "90.0"}
    of_parent = client.get_run(parent)
    assert of_parent.info.status == "FINISHED"
    assert of_parent.data.tags["sweep.best_trial"] == f"trial-{whole['best']['trial']:03d}"
    assert of_parent.data.params["sweep.over.train.gamma"] == "10, 50, 90"
    best = whole["best"]["figures"]["kernel_distance"]
    assert of_parent.data.metrics["best/kernel_distance"] == best
    assert command.STUDY == "study"
