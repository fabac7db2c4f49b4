"""Runs a part of the tests on an installed medgan, not on the checkout: `make test-oldest`.

The files are copied to a folder without the package, so that the wheel is what is tested.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHOSEN = (
    "tests/core", "tests/data/test_checks.py", "tests/data/test_prepare.py",
    "tests/data/test_splits.py", "tests/data/dicom", "tests/networks/test_losses.py",
    "tests/networks/test_generator.py", "tests/anomaly/test_calibration.py",
    "tests/anomaly/test_maps.py", "tests/model/test_model.py", "tests/training/test_loop.py",
    "tests/tracking/test_tracker.py", "tests/app/test_pipeline.py",
)  # fmt: skip
OPTIONS = (
    "-q", "-n0", "-p", "no:cacheprovider", "-W", "ignore", "-m", "not slow and not gpu",
    "-o", "addopts=--strict-markers --import-mode=importlib",
)  # fmt: skip
"""Without the checks of shapes, which go with newer packages; old packages warn of each other."""


def main() -> int:
    """The exit status of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tests", "zoo", "pipelines", "docs", "deploy"):
            shutil.copytree(ROOT / name, Path(folder, name))
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        command = [sys.executable, "-m", "pytest", *OPTIONS, *CHOSEN]
        return subprocess.run(command, cwd=folder, check=False).returncode  # nosec B603 # a fixed command of its own


if __name__ == "__main__":
    raise SystemExit(main())
