"""Checkpoints that survive a kill: written under another name, flushed, renamed, hashed.

The last two are kept. Beside them lie the averaged weights of the best evaluation. Each checkpoint
names that file and its hash, so that a training that goes back also returns to the best weights of
that moment.
"""

import hashlib
import json
import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medgan.core.errors import ModelError
from medgan.core.files import write_atomic
from medgan.core.json_files import read_json_object
from medgan.training.monitor import Monitor
from medgan.training.state import TrainingState

log = logging.getLogger(__name__)
KEPT = 2
_BEST = "best-"


def save_checkpoint(state: TrainingState, folder: Path) -> Path:
    """Writes the state; older checkpoints but one are removed afterwards.

    The tensors come first. The small JSON file beside them, with their hash and one of its own, is
    renamed into place last and makes the checkpoint count.

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
    sha256, scalars = hashlib.sha256(data).hexdigest(), state.scalars()
    write_atomic(mark.with_suffix(".safetensors"), data)
    write_atomic(
        mark, json.dumps({"sha256": sha256, "state": scalars, "seal": _seal(sha256, scalars)})
    )
    marks = sorted(folder.glob("*.json"))
    for old in marks[:-KEPT]:
        _remove(old)
    wanted = {_best(folder, _watch_of(kept).best_at) for kept in marks[-KEPT:]}
    for best in set(folder.glob(f"{_BEST}*")) - wanted:
        best.unlink()
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
            sha256, scalars = _read(mark)
            data = mark.with_suffix(".safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                raise ValueError("hash differs")
            tensors = load(data)
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s); trying an older one", mark.stem, error)
            continue
        try:
            state.restore(tensors, scalars)
        except (KeyError, RuntimeError, ValueError):
            raise ModelError(
                "E_CHECKPOINT", mark.stem,
                f"belongs to a model of other sizes: {state.mismatch(tensors)}",
                "use another folder, or start over with --replace",
            ) from None  # fmt: skip
        return True
    if marks:
        raise ModelError(
            "E_CHECKPOINT", folder.name, "every checkpoint is damaged",
            "start over with --replace",
        )  # fmt: skip
    return False


def roll_back(state: TrainingState, folder: Path) -> None:
    """Restores the newest checkpoint that can be trusted and removes those after it.

    A checkpoint is passed over when an alarm was pending as it was written, or when the training
    has gone back to it before. The oldest is taken in any case. Weights, moments and counters go
    back; time, randomness and the stream of volumes go on, so that the same course is not taken
    again.

    Raises:
        ModelError: E_CHECKPOINT when all are damaged.
    """
    seconds, random, rollbacks = state.seconds, state.random.get_state(), state.monitor.rollbacks
    marks = sorted(folder.glob("*.json"), reverse=True)
    for mark in marks[:-1]:
        monitor = _watch_of(mark)
        if not monitor.alarm_pending and monitor.rollbacks == rollbacks:
            break
        _remove(mark)
    restore_newest(state, folder)
    state.seconds, state.monitor.rollbacks = seconds, rollbacks + 1
    state.monitor.absurd_steps = state.monitor.low_diversity_evaluations = 0
    state.random.set_state(random)


def save_best(state: TrainingState, folder: Path) -> None:
    """Keeps the averaged weights of this moment as the best; notes their hash in the state.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    weights = {key: value.cpu().contiguous() for key, value in _average(state).items()}
    data = save(weights)
    write_atomic(_best(folder, state.monitor.best_at), data)
    state.monitor.best_sha256 = hashlib.sha256(data).hexdigest()


def restore_best(state: TrainingState, folder: Path) -> bool:
    """Puts the best weights into the average, if there are any and they are whole.

    Returns:
        Whether it was done.
    """
    if state.monitor.best is None:
        return False
    try:
        data = _best(folder, state.monitor.best_at).read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != state.monitor.best_sha256:
        log.warning("the best weights are missing or damaged; the last ones are taken")
        return False
    for key, value in load(data).items():
        _average(state)[key].copy_(value)
    return True


def _average(state: TrainingState) -> dict[str, Tensor]:
    """The tensors of the averaged networks, sharing their memory."""
    modules = state.average.modules().items()
    return {f"{name}.{key}": t for name, m in modules for key, t in m.state_dict().items()}


def _best(folder: Path, volumes_seen: int) -> Path:
    return folder / f"{_BEST}{volumes_seen:09d}.safetensors"


def _seal(sha256: str, scalars: str) -> str:
    """The hash of a mark, so that no other numbers are taken for those that were written."""
    return hashlib.sha256(f"{sha256} {scalars}".encode()).hexdigest()


def _read(mark: Path) -> tuple[str, str]:
    """The hash of a checkpoint's tensors, and its counters; marks of older versions have no seal.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    entry = read_json_object(mark)
    if entry.keys() - {"seal"} != {"sha256", "state"}:
        raise ValueError("not the mark of a checkpoint")
    sha256, scalars = str(entry["sha256"]), str(entry["state"])
    if entry.get("seal", _seal(sha256, scalars)) != _seal(sha256, scalars):
        raise ValueError("the hash of the mark differs")
    return sha256, scalars


def _watch_of(mark: Path) -> Monitor:
    """What a checkpoint remembers; of one that cannot be read, nothing."""
    try:
        return Monitor(**json.loads(_read(mark)[1])["monitor"])
    except (OSError, ValueError, KeyError, TypeError):
        return Monitor()


def _remove(mark: Path) -> None:
    mark.unlink()
    mark.with_suffix(".safetensors").unlink(missing_ok=True)
