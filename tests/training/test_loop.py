import json
import logging
import signal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import medgan
from medgan.app.pipeline import run_pipeline
from medgan.core.errors import EnvironmentFailure, Interrupted, TrainingDiverged
from medgan.core.volume import Volume
from medgan.training import loop
from medgan.training.samples import Adaptation, Reference, evaluate_samples
from medgan.training.schedule import Schedule
from medgan.training.steps import average_step
from medgan.training.tasks import synthesis as module
from medgan.training.tasks.synthesis import Synthesis
from tests.kit.clock import jumping_clock
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import fresh_state


@pytest.fixture
def training(tmp_path):
    """A call that trains on small scans into a folder, with more settings on request."""
    source = write_folder(tmp_path / "scans", 12)
    pipeline = tmp_path / "tiny.yaml"
    pipeline.write_text(yaml.safe_dump({"steps": ["index", "train"], "config": TINY}))

    def run(name="out", *overrides, replace=False):
        out = tmp_path / name
        settings = [f"out={out}", f"data.source={source}", *overrides]
        run_pipeline(str(pipeline), settings, replace=replace)
        return out

    run.folder = tmp_path
    return run


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_training_leaves_metrics_pictures_two_checkpoints_and_a_model(training):
    out = training()
    losses = [row for row in rows(out) if "critic/loss" in row]
    assert [row["volumes_seen"] for row in losses] == list(range(2, 17, 2))
    assert {"critic/gap", "pair/loss", "generator/reconstruction", "time/loading_share"} <= {
        *losses[0],
        *losses[1],  # the encoder takes part in every second step
    }
    assert "system/cpu_utilization_percentage" in rows(out)[0]
    evaluations = [row for row in rows(out) if "samples/kernel_distance" in row]
    assert [row["volumes_seen"] for row in evaluations] == [8, 16]
    assert {"samples/diversity", "samples/label_1_volume"} <= set(evaluations[0])
    assert all(0 <= evaluations[0][f"samples/{name}"] <= 1 for name in ("precision", "coverage"))
    assert len(list((out / "samples").glob("*.png"))) == 2
    kept = sorted(p.stem for p in (out / "checkpoints").glob("*.json"))
    assert kept == ["000000012", "000000016"]
    assert (out / "model" / "config.json").is_file()


@pytest.mark.fault(42)
def test_a_clock_that_jumps_by_a_day_changes_no_weight_and_no_duration(
    training, monkeypatch, measured
):
    expected = load_file(training() / "model" / "model.safetensors")
    looks = jumping_clock(monkeypatch)
    out = training("jumps", "train.minutes=60")
    found = load_file(out / "model" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert [row["volumes_seen"] for row in rows(out) if "critic/loss" in row][-1] == 16
    times = [row["time"] for row in rows(out)]
    assert times == sorted(times)
    shares = [row["time/loading_share"] for row in rows(out) if "time/loading_share" in row]
    assert all(0 <= share <= 1 for share in shares)
    assert looks
    measured(f"weights the same after {len(looks)} looks at a clock that jumps by a day")


def spoil(monkeypatch, when, how):
    """Has `how(state)` done after each step for which `when(state)` holds."""

    def corrupted(state, schedule):
        average_step(state, schedule)
        if when(state):
            with torch.no_grad():
                how(state)

    monkeypatch.setattr(loop, "average_step", corrupted)


def enlarge(state):
    """Samples far beyond [-1, 1], and finite."""
    for parameter in list(state.networks.generator.parameters())[-2:]:
        parameter.mul_(1e6)


def explode(state):
    for parameter in state.networks.generator.parameters():
        parameter.mul_(1e6)


@pytest.mark.fault(34)
def test_a_number_that_is_never_finite_again_stops_with_the_last_good_checkpoint_named(
    training, monkeypatch, measured
):
    real = Synthesis.generator_step

    def corrupted(task, state, batch):
        if state.volumes_seen >= 14:
            raise FloatingPointError
        return real(task, state, batch)

    monkeypatch.setattr(Synthesis, "generator_step", corrupted)
    with pytest.raises(TrainingDiverged, match=r"after 2 rollbacks.*000000012") as caught:
        training()
    assert caught.value.code == "E_NAN"
    assert caught.value.exit_status == 5
    monkeypatch.setattr(Synthesis, "generator_step", real)
    out = training()
    assert (out / "model" / "model.safetensors").is_file()
    measured(f"NaN in each step from the 7th on: {caught.value.code}, status 5, 2 rollbacks")


@pytest.mark.fault(34)
@pytest.mark.parametrize(
    ("how", "code"),
    [(enlarge, "E_EXPLODED"), (explode, "E_NAN")],
)
def test_a_training_that_explodes_once_goes_back_and_finishes(
    how, code, training, monkeypatch, caplog, measured
):
    spoil(monkeypatch, lambda s: s.volumes_seen == 6 and not s.monitor.rollbacks, how)
    with caplog.at_level(logging.WARNING):
        out = training("out", "train.volumes=26")
    assert f"{code} at" in caplog.text
    assert "back to 4 volumes" in caplog.text
    steps = [row for row in rows(out) if "critic/loss" in row]
    assert [row["volumes_seen"] for row in steps] == list(range(2, 27, 2))
    assert [row["train/rollbacks"] for row in steps] == [0] * 2 + [1] * 11
    assert max(row["generator/clipped"] for row in steps) < 0.9
    facts = json.loads((out / "model" / "config.json").read_text())["facts"]
    assert facts["rollbacks"] == 1
    assert facts["reconstruction"] < 2
    pictures = sorted(int(p.stem) for p in (out / "samples").glob("*.png"))
    assert pictures == [8, 16, 24, 26]
    measured(
        f"{code} after 6 volumes: {facts['rollbacks']} rollback to 4, all {len(steps)} steps done"
    )


@pytest.mark.fault(34)
def test_a_training_that_explodes_each_time_stops(training, monkeypatch):
    spoil(monkeypatch, lambda s: s.volumes_seen == 6, enlarge)
    with pytest.raises(TrainingDiverged, match=r"after 2 rollbacks.*000000004"):
        training("out", "train.volumes=26", "train.sample_every=8")


def test_an_absurd_learning_rate_ends_in_a_clear_stop(training):
    with pytest.raises(TrainingDiverged, match=r"after 2 rollbacks.*lower train\.learning_rate"):
        training("out", "train.learning_rate=1000")
    assert not (training.folder / "out" / "model").exists()


@pytest.mark.fault(28)
@pytest.mark.parametrize("killed_at", [pytest.param(10, marks=pytest.mark.slow), 16])
def test_a_training_that_is_killed_beside_an_alarm_ends_like_a_whole_one(
    killed_at, training, monkeypatch
):
    def bad(state):
        return state.volumes_seen == 8 and not state.monitor.rollbacks

    class Killed(BaseException):
        pass

    kills = [killed_at]

    def kill(state):
        if bad(state):
            enlarge(state)
        elif kills:
            kills.clear()
            raise Killed

    settings = ("train.volumes=20", "train.sample_every=100")
    monkeypatch.setattr(Schedule, "checkpoint_every", 6)
    spoil(monkeypatch, bad, enlarge)
    whole = training("whole", *settings)
    spoil(monkeypatch, lambda s: bad(s) or s.volumes_seen == killed_at, kill)
    with pytest.raises(Killed):
        training("killed", *settings)
    killed = training("killed", *settings)
    assert_same(whole, killed)


def assert_same(a, b):
    """Two trainings ended with the same weights and metrics, and took the same course."""
    assert (a / "model" / "model.safetensors").read_bytes() == (
        b / "model" / "model.safetensors"
    ).read_bytes()
    for one, other in zip(rows(a), rows(b), strict=True):
        steady = [k for k in one if not k.startswith(("time", "system"))]
        assert {k: one[k] for k in steady} == {k: other[k] for k in steady}


@pytest.fixture
def distances(monkeypatch):
    """Kernel distances that the evaluations of a training report, one after the other."""
    values = []

    def found(state, path, **settings):
        metrics = evaluate_samples(state, path, **settings)
        return metrics | {"samples/kernel_distance": values.pop(0)}

    monkeypatch.setattr(module, "evaluate_samples", found)
    return values


def facts_of(out):
    return json.loads((out / "model" / "config.json").read_text())["facts"]


def test_the_weights_of_the_best_evaluation_are_shipped_with_their_metrics(training, distances):
    distances += [1.0]
    short = training("short", "train.volumes=8")
    distances += [1.0, 2.0]
    out = training("out")
    facts = facts_of(out)
    assert (facts["best_at"], facts["volumes_seen"]) == (8, 16)
    first = next(row for row in rows(out) if "samples/reconstruction" in row)
    assert facts["reconstruction"] == round(first["samples/reconstruction"], 5)
    best = load_file(out / "checkpoints" / "best-000000008.safetensors")
    shipped = load_file(out / "model" / "model.safetensors")
    assert all(torch.equal(best[key], shipped[key]) for key in shipped)
    assert facts_of(short)["best_at"] == 8
    distances += [0.5]
    assert facts_of(training("out", "train.volumes=24"))["best_at"] == 24


def test_training_stops_when_the_metric_reaches_its_threshold_and_does_not_go_on(
    training, distances
):
    distances += [0.5, 0.1, 0.0]
    for _ in range(2):
        out = training("out", "train.volumes=48", "train.stop_at=0.2")
        facts = facts_of(out)
        assert facts["volumes_seen"] == facts["best_at"] == 16
        assert "train.stop_at" in facts["stopped_early"]
        assert distances == [0.0]


def test_training_stops_when_the_second_half_brings_nothing_better(training, distances):
    distances += [0.5, 1.0, 1.0, 1.0]
    out = training("out", "train.volumes=16", "train.sample_every=4", "train.patience=1")
    assert (facts_of(out)["volumes_seen"], facts_of(out)["best_at"]) == (12, 4)


@pytest.mark.fault(34)
def test_weights_that_are_not_finite_are_never_saved(training, monkeypatch):
    spoil(
        monkeypatch,
        lambda s: s.volumes_seen == 8,
        lambda s: next(s.networks.encoder.parameters()).fill_(float("nan")),
    )
    with pytest.raises(TrainingDiverged, match="000000004"):
        training()


@pytest.mark.fault(30)
def test_an_interrupted_training_ends_with_the_weights_and_metrics_of_a_whole_one(
    training, monkeypatch
):
    whole = training("whole")
    spoil(
        monkeypatch, lambda s: s.volumes_seen == 10, lambda s: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(Interrupted):
        training("stopped")
    assert_same(whole, training("stopped"))


def without_memory(monkeypatch, fits):
    """Steps find no memory unless so many volumes at a time fit; a list of all that was tried."""
    tried, whole = [], Synthesis.generator_step

    def generator_step(self, state, batch):
        tried.append(self.micro_batch or self.schedule.batch)
        if state.volumes_seen > 6 and tried[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, state, batch)

    monkeypatch.setattr(Synthesis, "generator_step", generator_step)
    return tried


@pytest.mark.fault(36)
def test_a_step_without_memory_is_halved_once_and_told(training, monkeypatch, caplog, measured):
    tried = without_memory(monkeypatch, fits=2)
    out = training("out", "train.batch=4")
    halvings = [r for r in caplog.records if "memory ran out" in r.message]
    assert len(halvings) == 1
    assert "train.micro_batch=2" in halvings[0].message
    assert set(tried[tried.index(2) :]) == {2}
    assert [row["volumes_seen"] for row in rows(out) if "critic/loss" in row] == [4, 8, 12, 16]
    measured(f"{len(halvings)} halving at 8 volumes of 16, the training ends with all its steps")


@pytest.mark.fault(36)
def test_a_step_that_finds_no_memory_in_spite_of_it_ends_with_status_4(
    training, monkeypatch, measured
):
    tried = without_memory(monkeypatch, fits=1)
    with pytest.raises(EnvironmentFailure, match=r"E_MEMORY at 8 volumes: .*micro_batch") as found:
        training("out", "train.batch=4")
    assert found.value.exit_status == 4
    assert tried == [4, 4, 2]
    measured(f"status {int(found.value.exit_status)} after 1 halving that is not enough")


def test_replace_starts_over(training):
    out = training()
    first = rows(out)
    training("out", "train.volumes=4", replace=True)
    assert len(rows(out)) < len(first)


@pytest.mark.fault(42)
def test_a_time_limit_ends_the_training_early_and_well(training):
    out = training("out", "train.volumes=100000", "train.minutes=0.02")
    assert rows(out)[-1]["volumes_seen"] < 1000
    assert (out / "model" / "model.safetensors").is_file()


def a_reference(held_out: torch.Tensor, seen: torch.Tensor) -> Reference:
    """Sixteen latents without conditions, one label."""
    return Reference(
        latents=torch.randn(16, 8),
        conditions=torch.zeros(16, 0),
        volumes=held_out,
        seen=seen,
        labels=(1,),
        label_volumes=(10.0,),
        label_offset=0.0,
        floor=0.0,
        diversity=0.3,
    )


@pytest.mark.fault(35)
def test_samples_that_are_all_alike_raise_the_alarm(tmp_path, caplog):
    state = fresh_state()
    with torch.no_grad():
        for parameter in state.average.generator.parameters():
            parameter.zero_()
    random = torch.Generator().manual_seed(0)
    volumes = torch.rand(9, 1, 16, 16, 16, generator=random)
    reference = a_reference(volumes, volumes)
    with caplog.at_level(logging.WARNING):
        evaluate_samples(state, tmp_path / "samples.png", reference, None, 2, 0)
    assert "E_DIVERSITY" in caplog.text


@pytest.mark.parametrize(
    ("learned_by_heart", "before", "expected"),
    [(True, 0.15, 0.25), (False, 0.15, 0.05), (True, 0.25, 0.3), (False, 0.05, 0.0)],
)
def test_augmentation_rises_while_training_scans_are_judged_better_than_held_out_ones(
    learned_by_heart, before, expected
):
    state = fresh_state()
    state.augment = before
    levels = {"seen": 1.0, "held_out": 0.2 if learned_by_heart else 0.9, "fakes": 0.0}
    volumes = {k: torch.full((4, 1, 16, 16, 16), v) for k, v in levels.items()}
    state.networks.discriminator.forward = lambda volume: volume.mean(dim=(1, 2, 3, 4))
    found = Adaptation(1600, 4).adapted(
        state, volumes["seen"], volumes["held_out"], volumes["fakes"]
    )
    assert found == pytest.approx(expected)


def test_thirty_two_labels_are_learned_in_fifteen_channels_and_generated(tmp_path):
    values = (*range(1001, 1017), *range(2020, 2036))
    source = write_folder(tmp_path / "scans", 12)
    blocks = np.array(values, np.uint16).reshape(4, 4, 2).repeat(4, 0).repeat(4, 1).repeat(8, 2)
    blocks[[0, -1]] = 0
    for path in source.glob("*_label.nii.gz"):
        Volume(blocks, Volume.load(path).affine).save(path)
    pipeline = tmp_path / "tiny.yaml"
    steps = ["index", "train", "generate"]
    pipeline.write_text(yaml.safe_dump({"steps": steps, "config": TINY}))
    out = tmp_path / "out"
    run_pipeline(str(pipeline), [f"out={out}", f"data.source={source}", "train.volumes=4"])
    model = medgan.load(str(out / "model"))
    assert model.preprocessing.labels == values
    assert model.networks.generator.out.out_channels == 8 * 16
    label_maps = list((out / "synthetic" / "labelsTr").glob("*.nii.gz"))
    assert len(label_maps) == 2
    for path in label_maps:
        found = set(np.unique(Volume.load(path).data))
        assert found & set(values)
        assert found <= {0, *values}
