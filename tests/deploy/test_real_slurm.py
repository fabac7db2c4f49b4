"""The batch scripts in deploy/slurm on a real Slurm, with real trainings and scores."""

import csv
import json
from contextlib import suppress

import pytest
import yaml

from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import save_calibrated
from tests.kit.slurm import slurm_cluster, until

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path):
    """A folder with scans and a pipeline file of a training of half a minute."""
    source = write_folder(tmp_path / "scans", 12, labels=False)
    train = TINY["train"] | {"volumes": 240, "batch": 4, "sample_every": 60, "precision": "fp32"}
    data = TINY["data"] | {"source": str(source)}
    settings = TINY | {"train": train, "localiser": {}, "data": data}
    file = {"steps": ["index", "train", "scorers", "calibrate"], "config": settings}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(file))
    return tmp_path


@pytest.fixture
def slurm(work, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with slurm_cluster(work) as cluster:
        yield cluster


def rows(out):
    """Metrics of a training, without times."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "system")
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in found]


def comes_to(out, volumes):
    with suppress(OSError, IndexError, ValueError):
        return rows(out)[-1]["volumes_seen"] >= volumes
    return False


def test_a_training_that_is_stopped_and_preempted_ends_at_the_same_curve(slurm, work):
    whole, parts = work / "whole", work / "parts"
    first = slurm.send("train.sbatch", "tiny.yaml", "-o", whole)
    until(lambda: slurm.ended(first))
    assert slurm.job(first)["JobState"] == "COMPLETED", slurm.log(f"medgan-train-{first}.log")

    job = slurm.send("train.sbatch", "tiny.yaml", "-o", parts)
    until(lambda: comes_to(parts, 40))
    slurm("scancel", "--batch", "--signal=USR1", job)  # as before the end of its time
    until(lambda: slurm.job(job)["Restarts"] == "1")
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now")
    seen = rows(parts)[-1]["volumes_seen"]
    assert seen < 240
    until(lambda: comes_to(parts, seen + 40))
    urgent = slurm("sbatch", "--parsable", "-p", "urgent", "-N2", "--exclusive", "--wrap=sleep 1")
    until(lambda: slurm.job(job)["Restarts"] == "2")
    until(lambda: slurm.ended(urgent))
    until(lambda: slurm.ended(job))
    text = slurm.log(f"medgan-train-{job}.log")
    assert slurm.job(job)["JobState"] == "COMPLETED", text
    assert text.count("E_STOPPED at") == 2
    assert text.count("resumed at") == 2
    assert rows(parts) == rows(whole)


def test_processes_on_two_nodes_train_one_model_and_stop_together(slurm, work):
    two = ("--nodes=2", "--ntasks-per-node=1")
    job = slurm.send("train.sbatch", "tiny.yaml", "-o", work / "out", options=two)
    until(lambda: comes_to(work / "out", 20))
    slurm("scancel", "--batch", "--signal=USR1", job)
    until(lambda: slurm.job(job)["Restarts"] == "1")
    until(lambda: slurm.ended(job))
    assert slurm.job(job)["JobState"] == "COMPLETED", slurm.log(f"medgan-train-{job}.log")
    assert rows(work / "out")[-1]["volumes_seen"] == 240
    tags = json.loads((work / "out" / "tracking.json").read_text())["tags"]
    told = {"slurm_job": job, "slurm_nodes": "2", "slurm_restarts": "1", "processes": "2"}
    assert told.items() <= tags.items()


def test_a_job_that_somebody_cancels_stays_cancelled(slurm, work):
    job = slurm.send("train.sbatch", "tiny.yaml", "-o", work / "out")
    until(lambda: comes_to(work / "out", 20))
    slurm("scancel", job)
    until(lambda: slurm.ended(job))
    assert slurm.job(job)["JobState"] == "CANCELLED"
    assert slurm.job(job)["Restarts"] == "0"
    assert "E_STOPPED at" in slurm.log(f"medgan-train-{job}.log")


def test_an_array_of_shards_leaves_one_table_and_then_the_merge_has_nothing_to_do(slurm, work):
    save_calibrated(work / "model")
    given = ("score", work / "model", work / "scans", "-o", work / "score")
    array = slurm.send("shards.sbatch", "3", *given, options=("--array=1,3",))
    merge = slurm.send("merge.sbatch", work / "score", options=(f"--dependency=afterany:{array}",))
    until(lambda: slurm.ended(array))
    until(lambda: slurm.ended(merge))
    assert "E_SHARD shards/: 2 of 3 not done" in slurm.log(f"medgan-merge-{merge}.log")
    assert slurm.job(merge)["JobState"] == "FAILED"
    rest = slurm.send("shards.sbatch", "3", *given, options=("--array=2",))
    merge = slurm.send("merge.sbatch", work / "score", options=(f"--dependency=afterany:{rest}",))
    until(lambda: slurm.ended(merge))
    assert slurm.states(array) == ["COMPLETED"] * 2
    assert slurm.states(rest) + slurm.states(merge) == ["COMPLETED"] * 2
    assert "no shards are left" in slurm.log(f"medgan-merge-{merge}.log")
    with (work / "score" / "scores.csv").open(newline="") as file:
        assert len({row["case"] for row in csv.DictReader(file)}) == 12
