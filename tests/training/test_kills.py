"""A training that is killed again and again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "kill_rounds.py"


@pytest.mark.slow
@pytest.mark.fault(28)
def test_a_training_that_is_killed_at_random_ends_like_a_whole_one(tmp_path, measured):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "kills", "-n", "20"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads((tmp_path / "kills" / "kills.json").read_text())
    assert (done.returncode, found["lost"]) == (0, 0), (found, done.stderr)
    assert found["kills"] >= 20
    assert len(found["killed_after"]) > 1  # not only before anything was saved
    measured(f"{found['kills']} kills in {found['trainings']} trainings, {found['lost']} lost")
