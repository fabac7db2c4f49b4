"""A real server that is killed at random while rows are written: MLflow has each row once."""

import logging
import random
import threading
import time
from collections import Counter

import pytest
from mlflow import MlflowClient

from medgan.tracking import mirror as module
from medgan.tracking.mirror import Mirror
from medgan.tracking.mlflow import MlflowRun
from medgan.tracking.record import Record, recorded
from medgan.tracking.sending import rows_left
from medgan.tracking.tracker import METRICS, JsonlTracker
from tests.kit.tracking_server import TrackingServer

log = logging.getLogger(__name__)
METRICS_A_ROW = 12


def write_rows(folder, uri, count, goes_on):
    """Milliseconds of work of this thread for each row; no row follows the last kill alone."""
    took = []
    jsonl = JsonlTracker(folder / METRICS)
    with recorded(Record({"a": 1}, {"b": "c"}, "d" * 64, {"train": 8}), folder, False):
        with Mirror(lambda: MlflowRun(uri, "kills", folder), folder, "medgan sync") as mirror:
            for number in range(count):
                scalars = {f"group/m{n}": random.random() for n in range(METRICS_A_ROW)}
                before = time.thread_time()
                jsonl.log(scalars, 2 * number)
                mirror.log(scalars, 2 * number)
                took.append(1000 * (time.thread_time() - before))
                time.sleep(0.05)
                while number == count - 50 and goes_on():
                    time.sleep(0.05)
    return took


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills"), [(500, 20)])
def test_a_server_that_is_killed_at_random_has_every_row_once_in_the_end(
    count, kills, database, tmp_path, monkeypatch
):
    for name in ("SECONDS_AT_END", "SECONDS_WITHOUT_ANSWER"):
        monkeypatch.setattr(module, name, 300.0)
    run, done = tmp_path / "run", []
    with TrackingServer(database) as server:
        draw = random.Random(0)
        killer = threading.Thread(target=server.kill_and_restart, args=(kills, draw, done))
        killer.start()
        started = time.time()
        took = write_rows(run, server.uri, count, killer.is_alive)
        log.info("%d kills in %.0f s", len(done), time.time() - started)
        log.info("%.3f ms a row, at most %.2f", sum(took) / count, max(took))
        killer.join()
    client = MlflowClient(server.store)
    found = client.get_run((run / "mlflow_run.txt").read_text())
    wanted = Counter(2 * number for number in range(count))
    for number in range(METRICS_A_ROW):
        points = client.get_metric_history(found.info.run_id, f"group/m{number}")
        assert Counter(point.step for point in points) == wanted
    assert (found.info.status, found.data.params["a"], rows_left(run)) == ("FINISHED", "1", 0)
    assert len(client.search_runs([found.info.experiment_id])) == 1
    assert sum(took) / count < 1
