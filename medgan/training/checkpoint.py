"""Checkpoints that survive a kill: written aside, flushed, renamed, hashed, the last two kept."""

import hashlib
import json
import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from medgan.errors import ModelError
from medgan.files import write_atomic
from medgan.training.state import TrainingState

log = logging.getLogger(__name__)
KEPT = 2


def save_checkpoint(state: TrainingState, folder: Path) -> Path:
    """Writes the state; older checkpoints but one are removed afterwards.

    The tensors come first. The small JSON file beside them, with their hash, is renamed into
    place last and makes the checkpoint count.

    Args:
        state: of the training.
        folder: made if missing.

    Returns:
        The JSON file.

    Raises:
        EnvironmentFailure: E_DISK when the disk is full or cannot be written; the older
            checkpoints stay.
    """
    data = save(state.tensors())
    mark = folder / f"{state.volumes_seen:09d}.json"
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "state": state.scalars()}
    write_atomic(mark.with_suffix(".safetensors"), data)
    write_atomic(mark, json.dumps(entry))
    for old in sorted(folder.glob("*.json"))[:-KEPT]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return mark


def restore_newest(state: TrainingState, folder: Path) -> bool:
    """Restores the newest checkpoint that is whole, passing over damaged ones.

    Returns:
        Whether there was one.

    Raises:
        ModelError: E_CHECKPOINT when the checkpoint belongs to networks of other sizes, or
            when there are checkpoints and all are damaged.
    """
    marks = sorted(folder.glob("*.json"), reverse=True)
    for mark in marks:
        try:
            entry = json.loads(mark.read_text())
            data = mark.with_suffix(".safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise ValueError("hash differs")
            tensors = load(data)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s); trying an older one", mark.stem, error)
            continue
        try:
            state.restore(tensors, entry["state"])
        except (KeyError, RuntimeError, ValueError):
            raise ModelError(
                "E_CHECKPOINT", mark.stem, "belongs to a model of other sizes",
                "use another output folder or --set train.resume=never",
            ) from None  # fmt: skip
        return True
    if marks:
        raise ModelError(
            "E_CHECKPOINT", folder.name, "every checkpoint is damaged",
            "start over with --set train.resume=never",
        )  # fmt: skip
    return False
