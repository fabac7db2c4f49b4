"""Nothing calls home: MLflow's telemetry is off before MLflow is imported, by whatever road."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medgan.core.volume import Volume
from tests.kit.command_line import MEDGAN
from tests.kit.data_sets import TINY, write_folder
from tests.kit.network_guard.sitecustomize import LOG

SWITCHES = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "RAY_USAGE_STATS_ENABLED")
TESTING = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL")
"""Variables by which MLflow knows a machine that tests."""
LIKE_A_USER = "import mlflow.telemetry.client as c; print(c.get_telemetry_client() is None)"
ROOT = Path(__file__).parents[1]


def of_a_user(home):
    """The environment of somebody who has heard of none of this, with a home of its own."""
    without = {LOG, *SWITCHES, *TESTING}
    own = {name: value for name, value in os.environ.items() if name not in without}
    return own | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}


def files_of_mlflow(code, home):
    """What a process of a user leaves in its `~/.config/mlflow`."""
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], env=of_a_user(home), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [path.name for path in home.glob(".config/mlflow/*")], done.stdout.strip()


@pytest.mark.fault(47)
def test_a_process_with_medgan_has_no_telemetry_of_mlflow(tmp_path, measured):
    files, disabled = files_of_mlflow(f"import medgan; {LIKE_A_USER}", tmp_path / "home")
    assert (files, disabled) == ([], "True")
    measured(f"{len(files)} files of telemetry in a fresh home after importing MLflow")


@pytest.mark.slow
@pytest.mark.fault(47)
@pytest.mark.parametrize(
    "road",
    [
        "import medgan.data.lesion_transform",
        "import medgan.anomaly.maps; from monai.metrics.regression import compute_ssim_and_cs",
        "import medgan.tracking.client as c; c.connect('sqlite:///store.db', write=True)",
        "from medgan.evaluation.probes import augmentation",
    ],
)
def test_neither_does_what_imports_mlflow_by_another_road(road, tmp_path):
    there = f"import os; os.chdir({str(tmp_path)!r}); "
    assert files_of_mlflow(f"{there}{road}; {LIKE_A_USER}", tmp_path / "home") == ([], "True")


@pytest.mark.slow
def test_without_medgan_mlflow_would_have_left_a_mark(tmp_path):
    assert files_of_mlflow(LIKE_A_USER, tmp_path / "home") == (["telemetry.json"], "False")


def isolated() -> list[str]:
    """Begins a process without any network; empty where this system cannot."""
    enter = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*enter, "true"], check=False).returncode:
        return []
    return enter


@pytest.mark.slow
@pytest.mark.fault(47)
def test_all_work_is_done_without_any_network(tmp_path, measured):
    """C libraries cannot reach anything either; a store in a file needs no server."""
    enter = isolated()
    if not enter:
        pytest.skip("needs unshare and its rights")
    (tmp_path / "tiny.yaml").write_text(_pipeline(), "utf-8")
    (home := tmp_path / "home").mkdir()
    scans = write_folder(tmp_path / "scans", 24)
    Volume.load(scans / "person-00.nii.gz").save(tmp_path / "one.nii.gz")
    model = "runs/train/model"
    verbs = [
        ("doctor", "-o", "runs/doctor"),
        ("check", "scans", "-o", "runs/check"),
        ("train", "tiny.yaml", "--data", "scans", "-o", "runs/train"),
        ("generate", model, "-n", "2", "-o", "runs/generate"),
        ("score", model, "one.nii.gz", "-o", "runs/score"),
        ("report", "-o", "runs/train"),
        ("invert", model, "one.nii.gz", "-o", "runs/invert"),
        ("export", model, "--format", "folder", "-o", "runs/export"),
        ("register", model, "--name", "tiny", "-o", "runs/register"),
        ("models", "-o", "runs/models"),
        ("score", "models:/tiny@challenger", "one.nii.gz", "-o", "runs/scored_again"),
    ]
    for verb in verbs:
        done = subprocess.run(
            [*enter, *MEDGAN, *verb], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env=of_a_user(home) | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
    assert not list(home.glob(".config/mlflow/*"))
    measured(f"{len(verbs)} commands done in a process without a network")


def _pipeline() -> str:
    import yaml

    config = {key: value for key, value in TINY.items() if key != "tracking"}
    return yaml.safe_dump({"steps": ["index", "train", "calibrate"], "config": config})
