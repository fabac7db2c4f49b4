"""Eight processes begin to record on a SQLite store that is not there yet."""

import subprocess
import sys

import pytest

from medgan.tracking.client import connect, sqlite_uri

PROCESSES, ROUNDS, POINTS = 8, 20, 5
_ROUND = f"""
import sys
from multiprocessing import get_context
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store  # imported once: a fork costs nothing
from medgan.tracking.client import sqlite_uri
from medgan.tracking.mlflow import MlflowRun
from medgan.tracking.new_rows import NewRow


def train(number, together, database):
    together.wait()
    folder = Path(database).parent / f"run{{number}}"
    folder.mkdir()
    with MlflowRun(sqlite_uri(Path(database)), "medgan", folder) as run:
        for step in range({POINTS}):
            run.log([NewRow(1000 + step, step, {{"loss": float(step)}})])


context = get_context("fork")
for database in sys.argv[1:]:
    together = context.Barrier({PROCESSES})
    processes = [
        context.Process(target=train, args=(n, together, database)) for n in range({PROCESSES})
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(*(process.exitcode for process in processes), flush=True)
"""


@pytest.mark.fault(38)
@pytest.mark.slow
def test_eight_processes_begin_on_a_fresh_store_at_once(tmp_path, measured):
    databases = [tmp_path / f"round{n}" / "mlflow.db" for n in range(ROUNDS)]
    for database in databases:
        database.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ROUND, *map(str, databases)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["0"] * (PROCESSES * ROUNDS), done.stderr[-3000:]
    for database in databases:
        client = connect(sqlite_uri(database))
        (experiment,) = client.search_experiments(filter_string="name = 'medgan'")
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == PROCESSES
        for run in runs:
            assert run.info.status == "FINISHED"
            points = client.get_metric_history(run.info.run_id, "loss")
            assert [point.step for point in points] == list(range(POINTS))
    measured(
        f"{PROCESSES} processes at once, {ROUNDS} times: all {PROCESSES * ROUNDS} runs complete"
    )
