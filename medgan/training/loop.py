"""The training loop, to be read from top to bottom."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from medgan.config import TrainConfig
from medgan.data.loaders import Batch, BatchStream
from medgan.errors import Interrupted, TrainingDiverged
from medgan.progress import TrainingProgress
from medgan.tracking.tracker import Tracker
from medgan.training.checkpoint import save_checkpoint
from medgan.training.samples import Reference, look
from medgan.training.state import TrainingState
from medgan.training.steps import average_step, discriminator_step, generator_step, progress


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
    """Trains until enough volumes are seen or the time is up; checkpoints into `folder`.

    Args:
        state: fresh or restored; changed in place.
        stream: real volumes; goes on at the state's position.
        reference: for pictures and figures.
        config: the train section.
        tracker: receives every figure and picture.
        folder: receives `checkpoints/` and `samples/`.

    Raises:
        Interrupted: E_STOPPED after SIGTERM or SIGINT, with a checkpoint written.
        TrainingDiverged: E_NAN; the last checkpoint stands.
        EnvironmentFailure: E_DISK when a checkpoint cannot be written.
    """
    checkpoints = folder / "checkpoints"
    stream.position = state.volumes_drawn
    bar = TrainingProgress(config.volumes, 60 * config.minutes)
    clock = time.monotonic()
    with closing(iter(stream)) as batches, _stop_requests() as stop, bar:
        while progress(state, config) < 1:
            started = time.monotonic()
            critic_batch, waited = _next(batches, state.device)
            generator_batch, waited_more = _next(batches, state.device)
            try:
                scalars = discriminator_step(state, critic_batch, config)
                scalars |= generator_step(state, generator_batch, config)
            except FloatingPointError:
                raise _diverged(state, checkpoints) from None
            average_step(state, config)
            state.volumes_drawn = stream.position
            figures = {name: float(value) for name, value in scalars.items()}
            now = time.monotonic()
            figures["time/volumes_per_second"] = config.batch / (now - started)
            figures["time/loading_share"] = (waited + waited_more) / (now - started)
            state.seconds, clock = state.seconds + now - clock, now
            tracker.log(figures, state.volumes_seen)
            bar.update(state.volumes_seen, state.seconds, figures)
            done = progress(state, config) >= 1
            if done or _due(state, config.sample_every, config):
                look(state, reference, config, tracker, folder)
            if stop or done or _due(state, config.checkpoint_every, config):
                if not state.is_finite():
                    raise _diverged(state, checkpoints)
                save_checkpoint(state, checkpoints)
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


def _diverged(state: TrainingState, checkpoints: Path) -> TrainingDiverged:
    marks = sorted(checkpoints.glob("*.json"))
    good = f"the last good checkpoint is {marks[-1].stem}" if marks else "no checkpoint yet"
    return TrainingDiverged(
        "E_NAN", f"at {state.volumes_seen} volumes", f"numbers are no longer finite; {good}",
        "lower train.learning_rate or raise train.gamma and run again to go on from there",
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
