"""The page on adding a task, done to a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import medgan
from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.data.pairs.pair import Pairing
from tests.kit.data_sets import write_folder

ROOT = Path(medgan.__file__).parents[1]
PAGE = (ROOT / "docs/how-to/add-a-task.md").read_text()
TASK, PIPELINE = (
    re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0] for kind in ("python", "yaml")
)
LINES = re.findall(r"^\| `([^`]+)`(?:, in `(\w+)`)? \| `([^`]+)` \|$", PAGE, re.MULTILINE)
TINY = (
    *("data.spacing=[2, 2, 2]", "data.shape=[16, 16, 16]", "train.volumes=8", "train.batch=2"),
    *("train.sample_every=4", "model.latent=8", "model.widths=[16, 16]", "model.stem_channels=16"),
    *("tracking.uri=none", "data.fractions=[0.5, 0.25, 0.15, 0.1]"),
)


def test_the_task_is_a_pairing_of_at_most_eighty_lines():
    assert len(TASK.splitlines()) <= 80
    names: dict[str, object] = {"__name__": "denoising"}
    exec(compile(TASK, "denoising.py", "exec"), names)
    grid = Preprocessing(spacing=(2, 2, 2), shape=(16, 16, 16), patches=True)
    pairing = names["Denoising"].of(grid, Conversion("denoising", (), (), False))  # pyright: ignore
    assert isinstance(pairing, Pairing)
    volume = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 8)).astype(np.float32)
    volume[:, :2] = np.nan
    pair = pairing(volume, None, np.random.default_rng(1))
    assert pair.source.shape == pair.target.shape == volume.shape
    assert np.array_equal(pair.weight[0] > 0, np.isfinite(volume[0]))
    assert 0.01 < np.abs(pair.source - pair.target)[:, 2:].mean() < 0.2


def added(folder: Path) -> Path:
    """A copy of the package with the page's file and lines."""
    shutil.copytree(
        ROOT / "medgan", folder / "medgan", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "pipelines", folder / "pipelines")
    (folder / "medgan/data/pairs/denoising.py").write_text(TASK)
    (folder / "pipelines/denoise.yaml").write_text(PIPELINE)
    for file, inside, line in LINES:
        path = folder / file
        text = path.read_text()
        if inside:
            at = re.search(rf"^{inside}\b.*?[\[{{]$|^{inside}\b[^\n]*Literal\[", text, re.M | re.S)
        else:
            at = re.search(r"(?=^from medgan\.data\.pairs)", text, re.MULTILINE)
        assert at is not None, (file, inside)
        path.write_text(
            f"{text[: at.end()]}\n    {line}\n" + text[at.end() :]
            if inside
            else f"{text[: at.end()]}{line}\n{text[at.end() :]}"
        )
    return folder


@pytest.mark.slow
def test_a_copy_with_the_file_and_the_lines_trains_and_translates(tmp_path):
    package, scans = added(tmp_path / "copy"), write_folder(tmp_path / "scans", 12, labels=False)
    environment = {**os.environ, "PYTHONPATH": str(package)}

    def medgan(*arguments: object) -> None:
        subprocess.run(
            [sys.executable, "-m", "medgan", *map(str, arguments)],
            env=environment, cwd=package, check=True, timeout=240,
        )  # fmt: skip

    settings = [part for text in TINY for part in ("--set", text)]
    medgan("train", "denoise", "--data", scans, "-o", tmp_path / "out", *settings)
    medgan("translate", tmp_path / "out/model", scans / "person-00.nii.gz", "-o", tmp_path / "t")
    assert list((tmp_path / "t/images").iterdir())
