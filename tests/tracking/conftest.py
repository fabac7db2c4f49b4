"""What stands for a model where only its files matter."""

from pathlib import Path

import pytest


@pytest.fixture
def model_folder(tmp_path) -> Path:
    """What stands for a model folder: only its files matter here."""
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder
