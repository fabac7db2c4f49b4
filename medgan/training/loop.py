"""The training loop, to be read from top to bottom."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from medgan.core.config import TrainConfig
from medgan.core.errors import Interrupted, TrainingDiverged
from medgan.core.progress import TrainingProgress
from medgan.data.batches import Batch, BatchStream
from medgan.tracking.tracker import Tracker
from medgan.training.checkpoint import roll_back, save_best, save_checkpoint
from medgan.training.monitor import MOST_ROLLBACKS, Alarm
from medgan.training.samples import Reference, forget_pictures, look
from medgan.training.state import TrainingState
from medgan.training.steps import average_step, discriminator_step, generator_step, progress

log = logging.getLogger(__name__)


@dataclass
class StopRequest:
    """Becomes true once the process was asked to stop."""

    signals: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.signals)


def train(
    state: TrainingState,
    stream: BatchStream,
    reference: Reference,
    config: TrainConfig,
    tracker: Tracker,
    folder: Path,
) -> None:
    """Trains until enough volumes are seen, the time is up or the metric is content.

    Checkpoints go into `folder`. On an alarm the training goes back to the last checkpoint that
    can be trusted, with half the learning rate and new randomness, twice at most.

    Args:
        state: fresh or restored; changed in place.
        stream: real volumes; goes on at the state's position.
        reference: for pictures and figures.
        config: the train section.
        tracker: receives every figure and picture.
        folder: receives `checkpoints/` and `samples/`.

    Raises:
        Interrupted: E_STOPPED after SIGTERM or SIGINT, with a checkpoint written.
        TrainingDiverged: E_NAN, E_EXPLODED, E_GAP or E_COLLAPSE once more after the last
            rollback; the last good checkpoint stands.
        EnvironmentFailure: E_DISK when a checkpoint cannot be written.
    """
    checkpoints = folder / "checkpoints"
    stream.position = state.volumes_drawn
    if not any(checkpoints.glob("*.json")):
        save_checkpoint(state, checkpoints)  # so that there is always one to go back to
    bar = TrainingProgress(config.volumes, 60 * config.minutes)
    clock = time.monotonic()
    with closing(iter(stream)) as batches, _stop_requests() as stop, bar:
        while progress(state, config) < 1 and not state.monitor.stop_reason(config):
            started = time.monotonic()
            critic_batch, waited = _next(batches, state.device)
            generator_batch, waited_more = _next(batches, state.device)
            try:
                scalars = discriminator_step(state, critic_batch, config)
                scalars |= generator_step(state, generator_batch, config)
                average_step(state, config)
                state.volumes_drawn = stream.position
                figures = {name: float(value) for name, value in scalars.items()}
                state.monitor.step(figures, config)
                now = time.monotonic()
                figures["train/rollbacks"] = state.monitor.rollbacks
                figures["time/volumes_per_second"] = config.batch / (now - started)
                figures["time/loading_share"] = (waited + waited_more) / (now - started)
                state.seconds, clock = state.seconds + now - clock, now
                tracker.log(figures, state.volumes_seen)
                bar.update(state.volumes_seen, state.seconds, figures)
                done = progress(state, config) >= 1
                if done or _due(state, config.sample_every, config):
                    _check(state)
                    samples = look(state, reference, config, tracker, folder)
                    late = progress(state, config) > 0.5
                    if state.monitor.look(samples, state.volumes_seen, late, config):
                        save_best(state, checkpoints)
                    done = done or bool(state.monitor.stop_reason(config))
                calm = not state.monitor.alarm_pending
                if stop or done or (calm and _due(state, config.checkpoint_every, config)):
                    _check(state)
                    save_checkpoint(state, checkpoints)
            except (Alarm, FloatingPointError) as trouble:
                _go_back(trouble, state, config, tracker, folder)
                continue
            if stop and not done:
                raise Interrupted(
                    "E_STOPPED", f"at {state.volumes_seen} volumes", "asked to stop",
                    "run the same command again to continue",
                )  # fmt: skip


def _next(batches: Iterator[Batch], device: torch.device) -> tuple[Batch, float]:
    """The next batch on the device, and the seconds waited for it."""
    started = time.monotonic()
    batch = next(batches).to(device)
    return batch, time.monotonic() - started


def _due(state: TrainingState, every: int, config: TrainConfig) -> bool:
    """Whether the step just done passed a multiple of `every` volumes."""
    return state.volumes_seen // every > (state.volumes_seen - config.batch) // every


def _check(state: TrainingState) -> None:
    """Weights that are not finite must neither be looked at nor saved."""
    if not state.is_finite():
        raise FloatingPointError


def _go_back(
    trouble: Alarm | FloatingPointError,
    state: TrainingState,
    config: TrainConfig,
    tracker: Tracker,
    folder: Path,
) -> None:
    """Rolls back, or gives up after the last rollback or when no time is left for another try."""
    alarm = trouble if isinstance(trouble, Alarm) else Alarm.not_finite()
    at, used = f"at {state.volumes_seen} volumes", state.monitor.rollbacks
    checkpoints = folder / "checkpoints"
    if used < MOST_ROLLBACKS:
        roll_back(state, checkpoints)
        tracker.rewind(state.volumes_seen)
        forget_pictures(folder, state.volumes_seen)
        if progress(state, config) < 1:
            log.warning(
                "%s %s: %s; back to %d volumes with half the learning rate, rollback %d of %d",
                alarm.code, at, alarm.what, state.volumes_seen, used + 1, MOST_ROLLBACKS,
            )  # fmt: skip
            return
    good = max(mark.stem for mark in checkpoints.glob("*.json"))
    raise TrainingDiverged(
        alarm.code, at, f"{alarm.what}, after {used} rollbacks; last good checkpoint: {good}",
        f"{alarm.remedy} and run again to go on from there",
    )  # fmt: skip


@contextmanager
def _stop_requests() -> Iterator[StopRequest]:
    """SIGTERM and SIGINT (Ctrl-C) only take note; the loop stops after the step."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    old = {n: signal.signal(n, lambda s, _: request.signals.append(s)) for n in numbers}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
