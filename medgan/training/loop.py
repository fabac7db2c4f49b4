"""The training loop, to be read from top to bottom."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from medgan.core.errors import Interrupted, TrainingDiverged, is_out_of_memory
from medgan.core.progress import TrainingProgress
from medgan.core.threads import shared_cores
from medgan.data.batches import Batch, BatchStream
from medgan.tracking.tracker import Tracker
from medgan.training.adversary import Scalars
from medgan.training.checkpoint import restore_newest, roll_back, save_best, save_checkpoint
from medgan.training.halving import halved
from medgan.training.monitor import MOST_ROLLBACKS, Alarm, Criteria
from medgan.training.samples import remove_later_pictures
from medgan.training.schedule import Schedule
from medgan.training.state import TrainingState
from medgan.training.steps import average_step
from medgan.training.stopping import stop_requests
from medgan.training.tasks.task import Evaluator, Task, adversarial

log = logging.getLogger(__name__)


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

    Of several processes that train together (`state.ranks`) all take the same steps with the same
    state. After each step they hear each other's metrics, stop requests and times, so that alarms
    and ends come in the same step for all. Rank 0 alone evaluates and writes.

    Args:
        task: what is trained.
        state: fresh or restored; changed in place.
        stream: real volumes of this process; goes on at the state's position.
        evaluate: of the task.
        criteria: by which the training is judged.
        tracker: receives every metric and picture; of other processes than the first, nothing.
        folder: receives `checkpoints/` and `samples/`.
        from_model: whether the weights are those of another model: they are evaluated first, so
            that they stay the best where the training makes them no better.

    Raises:
        Interrupted: E_STOPPED after SIGTERM, SIGINT or SIGUSR1, with a checkpoint written.
        TrainingDiverged: E_NAN, E_EXPLODED, E_GAP or E_COLLAPSE once more after the last
            rollback; the last good checkpoint stands.
        EnvironmentFailure: E_DISK when a checkpoint cannot be written; E_MEMORY when memory runs
            out, although half as much is computed at a time; E_RANK_LOST, E_RANKS when another
            process has ended or has other weights.
    """
    begun, exhausted = task, False
    schedule, ranks, checkpoints = task.schedule, state.ranks, folder / "checkpoints"
    stream.position = state.volumes_drawn
    if ranks.by_leader(lambda: not any(checkpoints.glob("*.json"))):
        if from_model:
            _evaluate(state, evaluate, criteria, tracker, folder, late=False)
        _save(state, checkpoints)  # so that there is always one to go back to
    bar = TrainingProgress(schedule.volumes, 60 * schedule.minutes)
    clock = time.monotonic()
    with closing(iter(stream)) as batches, stop_requests() as stop, bar:
        ranks.require_alike(state.size)
        while schedule.progress(state) < 1 and not state.monitor.stop_reason(criteria):
            if exhausted:  # here, where no exception keeps tensors alive
                task, exhausted = halved(task, state, begun), False
                _return(state, tracker, folder)
            started = time.monotonic()
            waiting = Waiting(batches, state.device)
            try:
                with ranks.stepping():
                    scalars = step(task, state, waiting)
                state.volumes_drawn = stream.position
                metrics = {name: float(value) for name, value in scalars.items()}
                now = time.monotonic()
                heard = ranks.exchange([metrics, bool(stop), now - clock])
                metrics = _added(metrics for metrics, _, _ in heard)
                stopping, seconds = any(stop for _, stop, _ in heard), heard[0][2]
                state.monitor.step(metrics, criteria)
                metrics["train/rollbacks"] = state.monitor.rollbacks
                metrics["time/volumes_per_second"] = schedule.batch / (now - started)
                metrics["time/loading_share"] = waiting.seconds / (now - started)
                state.seconds, clock = state.seconds + seconds, now
                tracker.log(metrics, state.volumes_seen)
                bar.update(state.volumes_seen, state.seconds, metrics)
                done = schedule.progress(state) >= 1
                if done or schedule.passed(state, schedule.evaluate_every):
                    late = schedule.progress(state) > 0.5
                    _evaluate(state, evaluate, criteria, tracker, folder, late)
                    done = done or bool(state.monitor.stop_reason(criteria))
                    shared_cores().share()
                calm = not state.monitor.alarm_pending
                if stopping or done or (calm and schedule.passed(state, schedule.checkpoint_every)):
                    _check(state)
                    _save(state, checkpoints)
            except (Alarm, FloatingPointError) as trouble:
                _go_back(trouble, state, schedule, tracker, folder)
                continue
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                exhausted = True
                continue
            if stopping and not done:
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
    samples, state.augment = state.ranks.by_leader(
        lambda: (evaluate(state, picture), state.augment)
    )
    tracker.log(samples, state.volumes_seen)
    tracker.picture(picture)
    best = state.monitor.evaluation(samples, state.volumes_seen, late, criteria)
    if best and criteria.chooses and state.ranks.leads:
        save_best(state, folder / "checkpoints")


def _save(state: TrainingState, checkpoints: Path) -> None:
    """Writes a checkpoint, once all processes have said that they have the same weights."""
    state.ranks.require_alike(state.size)
    state.ranks.by_leader(lambda: save_checkpoint(state, checkpoints).name)


def _added(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Metrics of a step: the sum of what each process adds, which is weighted by its share."""
    metrics: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            metrics[name] = metrics.get(name, 0.0) + value
    return metrics


def _check(state: TrainingState) -> None:
    """Weights that are not finite must be neither evaluated nor saved."""
    if not state.is_finite():
        raise FloatingPointError


def _return(state: TrainingState, tracker: Tracker, folder: Path) -> None:
    """The newest checkpoint once more: a step that was broken off may have moved half of it."""
    seconds = state.seconds
    restore_newest(state, folder / "checkpoints")
    state.seconds = seconds
    tracker.rewind(state.volumes_seen)
    remove_later_pictures(folder, state.volumes_seen)


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
        state.ranks.after_leader(lambda: roll_back(state, checkpoints))
        tracker.rewind(state.volumes_seen)
        if state.ranks.leads:
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
