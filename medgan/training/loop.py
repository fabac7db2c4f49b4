"""The training loop, to be read from top to bottom."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from medgan.core.errors import Interrupted, TrainingDiverged
from medgan.core.progress import TrainingProgress
from medgan.core.threads import shared_cores
from medgan.data.batches import Batch, BatchStream
from medgan.tracking.tracker import Tracker
from medgan.training.adversary import Scalars
from medgan.training.checkpoint import roll_back, save_best, save_checkpoint
from medgan.training.monitor import MOST_ROLLBACKS, Alarm, Criteria
from medgan.training.samples import remove_later_pictures
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState
from medgan.training.steps import average_step
from medgan.training.tasks.task import Evaluator, Task, adversarial

log = logging.getLogger(__name__)


@dataclass
class StopRequest:
    """Becomes true once the process was asked to stop."""

    signals: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.signals)


def train(
    task: Task,
    state: TrainingState,
    stream: BatchStream,
    evaluate: Evaluator,
    criteria: Criteria,
    tracker: Tracker,
    folder: Path,
    from_model: bool = False,
) -> None:
    """Trains until enough volumes are seen, the time is up or the metric is small enough.

    Checkpoints go into `folder`. On an alarm the training goes back to the last checkpoint that
    can be trusted, with half the learning rate and new randomness, twice at most.

    Args:
        task: what is trained.
        state: fresh or restored; changed in place.
        stream: real volumes; goes on at the state's position.
        evaluate: of the task.
        criteria: by which the training is judged.
        tracker: receives every metric and picture.
        folder: receives `checkpoints/` and `samples/`.
        from_model: whether the weights are those of another model: they are evaluated first, so
            that they stay the best where the training makes them no better.

    Raises:
        Interrupted: E_STOPPED after SIGTERM or SIGINT, with a checkpoint written.
        TrainingDiverged: E_NAN, E_EXPLODED, E_GAP or E_COLLAPSE once more after the last
            rollback; the last good checkpoint stands.
        EnvironmentFailure: E_DISK when a checkpoint cannot be written.
    """
    schedule, checkpoints = task.schedule, folder / "checkpoints"
    stream.position = state.volumes_drawn
    if not any(checkpoints.glob("*.json")):
        if from_model:
            _evaluate(state, evaluate, criteria, tracker, folder, late=False)
        save_checkpoint(state, checkpoints)  # so that there is always one to go back to
    bar = TrainingProgress(schedule.volumes, 60 * schedule.minutes)
    clock = time.monotonic()
    with closing(iter(stream)) as batches, _stop_requests() as stop, bar:
        while schedule.progress(state) < 1 and not state.monitor.stop_reason(criteria):
            started = time.monotonic()
            waiting = Waiting(batches, state.device)
            try:
                scalars = step(task, state, waiting)
                state.volumes_drawn = stream.position
                metrics = {name: float(value) for name, value in scalars.items()}
                state.monitor.step(metrics, criteria)
                now = time.monotonic()
                metrics["train/rollbacks"] = state.monitor.rollbacks
                metrics["time/volumes_per_second"] = schedule.batch / (now - started)
                metrics["time/loading_share"] = waiting.seconds / (now - started)
                state.seconds, clock = state.seconds + now - clock, now
                tracker.log(metrics, state.volumes_seen)
                bar.update(state.volumes_seen, state.seconds, metrics)
                done = schedule.progress(state) >= 1
                if done or schedule.passed(state, schedule.evaluate_every):
                    late = schedule.progress(state) > 0.5
                    _evaluate(state, evaluate, criteria, tracker, folder, late)
                    done = done or bool(state.monitor.stop_reason(criteria))
                    shared_cores().share()
                calm = not state.monitor.alarm_pending
                if stop or done or (calm and schedule.passed(state, schedule.checkpoint_every)):
                    _check(state)
                    save_checkpoint(state, checkpoints)
            except (Alarm, FloatingPointError) as trouble:
                _go_back(trouble, state, schedule, tracker, folder)
                continue
            if stop and not done:
                raise Interrupted(
                    "E_STOPPED", f"at {state.volumes_seen} volumes", "asked to stop",
                    "run the same command again to continue",
                )  # fmt: skip


def step(task: Task, state: TrainingState, following: Callable[[], Batch]) -> Scalars:
    """One step of a training: discriminators, where they take part, then generator and average.

    Args:
        task: what is trained.
        state: changed in place.
        following: gives the next batch.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    scalars: Scalars = {}
    if adversarial(task, state):
        scalars = task.discriminator_step(state, following())
    state.volumes_seen += task.schedule.batch
    scalars |= task.generator_step(state, following())
    average_step(state, task.schedule)
    return scalars


@dataclass
class Waiting:
    """Batches on a device, and the seconds that were waited for them.

    Attributes:
        batches: on the CPU.
        device: where they are used.
        seconds: waited so far.
    """

    batches: Iterator[Batch]
    device: torch.device
    seconds: float = 0.0

    def __call__(self) -> Batch:
        """The next one."""
        started = time.monotonic()
        batch = next(self.batches).to(self.device)
        self.seconds += time.monotonic() - started
        return batch


def _evaluate(
    state: TrainingState,
    evaluate: Evaluator,
    criteria: Criteria,
    tracker: Tracker,
    folder: Path,
    late: bool,
) -> None:
    """Evaluates samples, and keeps the averaged weights where they are the best so far."""
    _check(state)
    picture = folder / "samples" / f"{state.volumes_seen:09d}.png"
    samples = evaluate(state, picture)
    tracker.log(samples, state.volumes_seen)
    tracker.picture(picture)
    best = state.monitor.evaluation(samples, state.volumes_seen, late, criteria)
    if best and criteria.chooses:
        save_best(state, folder / "checkpoints")


def _check(state: TrainingState) -> None:
    """Weights that are not finite must be neither evaluated nor saved."""
    if not state.is_finite():
        raise FloatingPointError


def _go_back(
    trouble: Alarm | FloatingPointError,
    state: TrainingState,
    schedule: Schedule,
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
        remove_later_pictures(folder, state.volumes_seen)
        if schedule.progress(state) < 1:
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
