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
from torch import Tensor

from medgan.config import TrainConfig
from medgan.data.loaders import Batch, BatchStream, harden
from medgan.errors import Interrupted, TrainingDiverged
from medgan.metrics import band_features, diversity, kernel_distance
from medgan.pictures import sample_grid
from medgan.progress import TrainingProgress
from medgan.tracking.tracker import Tracker
from medgan.training.checkpoint import save_checkpoint
from medgan.training.state import TrainingState
from medgan.training.steps import (
    autocast,
    average_step,
    discriminator_step,
    generator_step,
    progress,
)

log = logging.getLogger(__name__)
LOW_DIVERSITY = 0.25
"""Share of the real volumes' diversity below which an alarm is raised."""
GRID = 8


@dataclass
class Reference:
    """What training is looked at with, the same from first to last.

    Attributes:
        latents: fixed latents of the pictures and figures, (N, L).
        volumes: held-out real volumes, (M, 1, X, Y, Z).
        labels: label values in the order of the generator's label channels.
        floor: kernel distance of training volumes from the held-out ones; what is reached
            when fakes are as close to them as other real volumes.
        diversity: of the held-out real volumes.
    """

    latents: Tensor
    volumes: Tensor
    labels: tuple[int, ...]
    floor: float
    diversity: float


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
            elapsed = time.monotonic() - started
            figures["time/volumes_per_second"] = config.batch / elapsed
            figures["time/loading_share"] = (waited + waited_more) / elapsed
            state.seconds += elapsed
            tracker.log(figures, state.volumes_seen)
            bar.update(state.volumes_seen, state.seconds, figures)
            done = progress(state, config) >= 1
            if done or _due(state, config.sample_every, config):
                _look(state, reference, config, tracker, folder)
            if stop or done or _due(state, config.checkpoint_every, config):
                save_checkpoint(state, checkpoints)
            if stop and not done:
                raise Interrupted(
                    "E_STOPPED", f"at {state.volumes_seen} volumes", "asked to stop",
                    "run the same command again to continue",
                )  # fmt: skip


@torch.no_grad()
def make_reference(
    state: TrainingState,
    held_out: Tensor,
    training: Tensor,
    labels: tuple[int, ...],
    config: TrainConfig,
) -> Reference:
    """Fixes latents and real volumes to look at a training with.

    Args:
        state: gives the latent's length and the device.
        held_out: calibration volumes, (M, 1, X, Y, Z).
        training: as many training volumes, for the floor.
        labels: label values that are learned.
        config: gives the seed.
    """
    generator = torch.Generator().manual_seed(config.seed + 1)
    count = max(2 * GRID, min(64, 2 * len(held_out)))
    latents = torch.randn(count, state.networks.generator.latent, generator=generator)
    floor = kernel_distance(band_features(held_out), band_features(training))
    return Reference(
        latents.to(state.device), held_out, labels, float(floor), float(diversity(held_out))
    )


@torch.no_grad()
def _look(
    state: TrainingState, reference: Reference, config: TrainConfig, tracker: Tracker, folder: Path
) -> None:
    """Pictures and figures of the averaged networks."""
    networks = state.average
    with autocast(state, config):
        fakes = torch.cat(
            [networks.generator(z).float().cpu() for z in reference.latents.split(config.batch)]
        )
        seen = reference.volumes[:GRID].to(state.device)
        recons = networks.generator(networks.encoder(seen))[:, :1].float().cpu()
    images, channels = fakes[:, :1], fakes[:GRID, 1:]
    maps = [harden(c, reference.labels).numpy() for c in channels] if reference.labels else []
    share = float(diversity(images)) / max(reference.diversity, 1e-6)
    distance = kernel_distance(band_features(reference.volumes), band_features(images))
    tracker.log(
        {
            "samples/kernel_distance": float(distance),
            "samples/kernel_distance_floor": reference.floor,
            "samples/diversity": share,
            "samples/reconstruction": float((recons - seen.cpu()).abs().mean()),
        },
        state.volumes_seen,
    )
    if share < LOW_DIVERSITY:
        log.warning(
            "E_DIVERSITY at %d volumes: samples vary %.0f%% as much as real scans; more data, a "
            "higher train.gamma or a lower train.learning_rate help",
            state.volumes_seen, 100 * share,
        )  # fmt: skip
    path = folder / "samples" / f"{state.volumes_seen:09d}.png"
    sample_grid(
        path, images[:GRID, 0].numpy(), seen[:, 0].cpu().numpy(), recons[:, 0].numpy(), maps,
        f"{state.volumes_seen:,} volumes seen",
    )  # fmt: skip
    tracker.picture(path)


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
        "E_NAN", f"at {state.volumes_seen} volumes", f"a loss is not a finite number; {good}",
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
