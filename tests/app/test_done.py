"""Steps of `medgan run` that are unchanged are skipped, and every change is noticed."""

import dataclasses
import json
import os
import stat

import pytest
import yaml

from medgan.app.pipeline import Again, plan_pipeline, run_pipeline
from medgan.app.result import StepResult
from medgan.app.steps import STEPS, Step
from medgan.core.errors import ConfigError
from medgan.data.manifest import Refusal
from tests.kit.command_line import inside

ORDER = ["index", "train", "calibrate", "generate", "report"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A pipeline whose steps write a line, and the names of those that were done."""
    monkeypatch.setattr("medgan.app.done.facts", lambda: {"medgan": "1"})
    done, scans = [], tmp_path / "scans"
    scans.write_text("a")

    def index(run):
        done.append("index")
        (run.out / "manifest.json").write_text(scans.read_text())

    def train(run):
        done.append("train")
        (run.out / "model").mkdir(exist_ok=True)
        (run.out / "model" / "weights").write_text(f"{run.config.train.seed}")
        (run.out / "cache").mkdir(exist_ok=True)
        (run.out / "cache" / "volumes").write_text("x")
        run.set("data", source=str(tmp_path / "found"))
        run.config = run.config.model_copy(update={"model_uri": "models:/n@a"})
        run.refuse([Refusal("c-1", "E_CONTRAST", "flat", "leave it out")])
        return StepResult({"seen": 16}, commands=("medgan generate",))

    def calibrate(run):
        done.append("calibrate")
        assert run.config.data.source == str(tmp_path / "found")
        with (run.out / "model" / "weights").open("a") as file:
            file.write(f" top {run.config.score.top_fraction}")

    def generate(run):
        done.append("generate")
        (run.out / "drawn").write_text(f"{run.config.generate.count}")

    def report(run):
        done.append("report")
        (run.out / "index.html").write_text("page")
        return StepResult(page=run.out / "index.html")

    steps = {
        "index": Step(index, ("data",)), "train": Step(train, ("train",)),
        "calibrate": Step(calibrate, ("score.top_fraction",)),
        "generate": Step(generate, ("generate",), ("drawn",)), "report": Step(report),
    }  # fmt: skip
    for name, step in steps.items():
        monkeypatch.setitem(STEPS, name, step)
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ORDER}))

    def go(*settings, replace=False, **again):
        done.clear()
        run = run_pipeline(
            str(pipeline), [f"out={tmp_path / 'out'}", *settings], {}, replace, Again(**again)
        )
        return list(done), run

    go.out, go.scans, go.pipeline = tmp_path / "out", scans, pipeline
    return go


def test_all_is_done_once_and_then_only_the_scans_are_looked_at(world):
    assert world()[0] == ORDER
    again, run = world()
    assert again == ["index"]
    assert run.closing_lines()[0] == ("train     unchanged, skipped (--force runs it again)")
    assert run.results["train"].values == {"seen": 16}
    assert run.config.data.source.endswith("found")
    assert run.config.model_uri == "models:/n@a"
    assert [one.code for one in run.refusals] == ["E_CONTRAST"]
    assert "E_CONTRAST" in (world.out / "refused.csv").read_text()
    assert run.results["report"].page == world.out / "index.html"
    assert world()[0] == ["index"]
    assert stat.S_IMODE((world.out / ".medgan_done.json").stat().st_mode) == 0o600


def weights(world, text):
    (world.out / "model" / "weights").write_text(text)


@pytest.mark.parametrize(
    ("change", "settings", "anew"),
    [
        (lambda w: w.scans.write_text("b"), (), ORDER),
        (lambda w: None, ("train.seed=3",), ORDER),
        (lambda w: None, ("score.top_fraction=0.1",), ORDER),  # begins with what train leaves
        (lambda w: weights(w, "0"), (), ["index", "train", "calibrate"]),
        (lambda w: (w.out / "drawn").unlink(), (), ["index", "generate"]),
        (lambda w: (w.out / "index.html").write_text("other"), (), ["index", "report"]),
        (lambda w: (w.out / "index.html").write_text("page"), (), ["index"]),
        (lambda w: os.utime(w.out / "drawn"), (), ["index"]),
        (lambda w: (w.out / "cache" / "volumes").unlink(), (), ["index"]),
        (lambda w: (w.out / ".medgan_done.json").write_text("{"), (), ORDER),
    ],
)  # fmt: skip
def test_what_is_another_is_done_anew_and_what_follows_from_it(change, settings, anew, world):
    world()
    change(world)
    done, _ = world(*settings)
    assert done == anew
    assert world(*settings)[0] == ["index"]


def test_what_a_step_replaces_is_refused_as_ever_and_replaced_when_asked(world):
    world()
    with pytest.raises(ConfigError, match="E_OUT"):
        world("generate.count=3")
    assert world("generate.count=3", replace=True)[0] == ["index", "generate", "report"]
    assert (world.out / "drawn").read_text() == "3"


def test_another_version_of_the_code_does_all_anew(world, monkeypatch):
    world()
    monkeypatch.setattr("medgan.app.done.facts", lambda: {"medgan": "99"})
    assert world()[0] == ORDER


def test_a_step_that_failed_or_was_killed_is_done_again_and_those_before_it_are_not(
    world, monkeypatch
):
    def killed(run):
        (run.out / "drawn").write_text("half")
        raise KeyboardInterrupt

    world()
    (world.out / "drawn").unlink()
    with monkeypatch.context() as patch:
        patch.setitem(STEPS, "generate", Step(killed, ("generate",), ("drawn",)))
        with pytest.raises(KeyboardInterrupt):
            world()
    assert world()[0] == ["index", "generate"]  # which leaves the same again
    assert (world.out / "drawn").read_text() == "8"


def test_a_model_by_an_alias_may_be_another_each_time(world, monkeypatch):
    monkeypatch.setitem(
        STEPS, "generate", dataclasses.replace(STEPS["generate"], reads=("model_uri",))
    )
    world("model_uri=models:/n@b")
    assert world("model_uri=models:/n@b")[0] == ["index", "generate"]
    world("model_uri=models:/n/1", replace=True)
    assert world("model_uri=models:/n/1")[0] == ["index"]


def test_force_does_all_and_from_does_a_step_and_what_follows(world):
    with pytest.raises(ConfigError, match="E_USAGE --from: index was not done yet"):
        world(first="calibrate")
    world()
    assert world(force=True)[0] == ORDER
    assert world(first="generate")[0] == ["generate", "report"]
    assert world(first="index")[0] == ORDER
    with pytest.raises(ConfigError, match="no step fly; use index, train"):
        world(first="fly")


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_says_what_would_be_done_and_why_and_writes_nothing(world):
    arguments = ("run", world.pipeline, "-o", world.out, "--dry-run")
    done = inside(*arguments)
    assert done.stdout.splitlines()[1].split(": ") == ["train            run", "was not done yet"]
    assert not world.out.exists()
    world()
    before = times(world.out)
    lines = [line.split(maxsplit=1) for line in inside(*arguments).stdout.splitlines()]
    assert lines == [["index", "run: looks at the scans"],
                     *([step, "skip: unchanged"] for step in ORDER[1:])]  # fmt: skip
    asked = json.loads(inside(*arguments, "--set", "train.seed=3", "--json").stdout)
    assert asked == {
        "index": "looks at the scans", "train": "another train.seed",
        "calibrate": "train is done anew", "generate": "train is done anew",
        "report": "train is done anew",
    }  # fmt: skip
    (world.out / "drawn").unlink()
    assert json.loads(inside(*arguments, "--json").stdout)["generate"] == "drawn is gone"
    del before[world.out / "drawn"]
    assert times(world.out) == before
    assert plan_pipeline(str(world.pipeline), [f"out={world.out}"], {}, Again())[0] == ORDER
