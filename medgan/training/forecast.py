"""What a training will take, before it begins: parameters, memory and time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from medgan.config import Config, Preprocessing, TrainConfig
from medgan.data.codes import channels
from medgan.data.loaders import Batch
from medgan.training.memory import StepMemory, free_memory, gigabytes, predict_memory
from medgan.training.session import choose_device
from medgan.training.state import TrainingState
from medgan.training.steps import average_step, discriminator_step, generator_step

_SHORT = 5.0
"""Steps of less than these seconds are timed once more: the first one also loads libraries."""
_LONG = 20.0
"""Where one step of each kind takes more than these seconds, twice the size is not timed any more
but estimated: it has eight times the voxels."""


@dataclass(frozen=True)
class Phase:
    """A part of the training with volumes of one size.

    Attributes:
        shape: voxels.
        volumes: how many real volumes are seen.
        seconds: for 1000 of them; None where they were not timed.
        estimated: whether that was scaled from smaller volumes.
    """

    shape: tuple[int, int, int]
    volumes: int
    seconds: float | None
    estimated: bool = False


@dataclass(frozen=True)
class Forecast:
    """What a training will take.

    Attributes:
        preprocessing: grid and labels.
        device: where it would run.
        parameters: of each network.
        batch: volumes a step.
        memory: of a step at full size.
        free: bytes that are free on the device; None where that cannot be found out.
        phases: in their order.
        minutes: limit of the whole training; 0 for none.
    """

    preprocessing: Preprocessing
    device: str
    parameters: dict[str, int]
    batch: int
    memory: StepMemory
    free: int | None
    phases: tuple[Phase, ...]
    minutes: float

    @property
    def fits(self) -> bool:
        """Whether the device has the memory, as far as that is known."""
        return self.free is None or self.memory.peak <= self.free

    @property
    def seconds(self) -> float | None:
        """The whole training, without reading scans, pictures and checkpoints."""
        if any(phase.seconds is None for phase in self.phases):
            return None
        needed = sum(phase.volumes * (phase.seconds or 0) / 1000 for phase in self.phases)
        return min(needed, 60 * self.minutes) if self.minutes else needed

    def as_json(self) -> dict[str, Any]:
        """Everything, bytes and seconds as numbers."""
        memory = asdict(self.memory) | {"peak": self.memory.peak, "free": self.free}
        return asdict(self) | {
            "preprocessing": self.preprocessing.model_dump(mode="json"), "memory": memory,
            "fits": self.fits, "seconds": self.seconds,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The same as text."""
        grid = self.preprocessing
        total = sum(self.parameters.values())
        free = "" if self.free is None else f", {gigabytes(self.free)} free"
        free += "" if self.fits else ": does not fit"
        lines = [
            f"grid        {_times(grid.shape)} voxels of {_times(grid.spacing)} mm; labels: "
            f"{', '.join(map(str, grid.labels)) or 'none'}",
            *(f"parameters  {count:>12,}  {name}" for name, count in self.parameters.items()),
            f"parameters  {total:>12,}  in all",
            f"memory      {gigabytes(self.memory.peak)} at batch {self.batch}; {self.device}{free}",
            f"            discriminator's step {gigabytes(self.memory.discriminator)}, generator's "
            f"{gigabytes(self.memory.generator)}, of which {gigabytes(self.memory.resident)} stays",
        ]
        for phase in self.phases:
            pace = "not timed" if phase.seconds is None else f"{_clock(phase.seconds)} per 1000"
            pace += " (estimated)" if phase.estimated else ""
            lines.append(f"time        {_times(phase.shape)}: {phase.volumes:,} volumes, {pace}")
        if self.seconds is not None:
            limited = ", the limit of train.minutes at most" if self.minutes else ""
            lines.append(f"time        {_clock(self.seconds)} in all{limited}")
        return lines


def forecast(config: Config, preprocessing: Preprocessing) -> Forecast:
    """Predicts the memory of a training and times a few of its steps on random volumes.

    Steps are timed at every size to which the networks can halve volumes, if they fit into memory.

    Args:
        config: of the training.
        preprocessing: grid and labels.

    Raises:
        EnvironmentFailure: E_DEVICE.
    """
    device = choose_device(config.train.device)
    state = TrainingState.fresh(preprocessing, config.model, config.train, device)
    networks = dict(state.networks.modules())
    if state.pair_discriminator is not None:
        networks["pair discriminator"] = state.pair_discriminator
    parameters = {
        name: sum(p.numel() for p in module.parameters()) for name, module in networks.items()
    }
    found = Forecast(
        preprocessing, device.type, parameters, config.train.batch,
        predict_memory(state, preprocessing, config.train), free_memory(device),
        (), config.train.minutes,
    )  # fmt: skip
    edges = sorted({0.0, *config.train.growth, 1.0})
    most = state.networks.generator.most_halved
    paces = _paces(state, preprocessing, config.train, most) if found.fits else {}
    phases: list[Phase] = []
    for start, end in pairwise(edges):
        halvings = min(most, sum(start < share for share in config.train.growth))
        x, y, z = (n >> halvings for n in preprocessing.shape)
        volumes = round((end - start) * config.train.volumes)
        pace = paces.get(halvings)
        if pace is None:
            phases.append(Phase((x, y, z), volumes, None))
            continue
        every = config.train.penalty_every if halvings == 0 else 1
        step = pace.step(every, config.train.encoder_every)
        seconds = 1000 / config.train.batch * step
        phases.append(Phase((x, y, z), volumes, seconds, pace.estimated))
    return replace(found, phases=tuple(phases))


class _Pace(NamedTuple):
    """Seconds of each kind of step.

    Attributes:
        penalised, plain: of the discriminator.
        encoding, bare: of the generator.
        estimated: whether they were scaled from volumes of half the size.
    """

    penalised: float
    plain: float
    encoding: float
    bare: float
    estimated: bool = False

    def step(self, penalty_every: int, encoder_every: int) -> float:
        """Mean seconds of a whole step, each kind as often as it comes."""
        critic = (self.penalised + (penalty_every - 1) * self.plain) / penalty_every
        return critic + (self.encoding + (encoder_every - 1) * self.bare) / encoder_every

    def of_twice_the_size(self) -> "_Pace":
        times = (8 * seconds for seconds in self[:4])
        return _Pace(*times, estimated=True)


def _paces(
    state: TrainingState, preprocessing: Preprocessing, config: TrainConfig, most: int
) -> dict[int, _Pace]:
    """Paces by the number of halvings; sizes that would take too long to time are estimated."""
    paces: dict[int, _Pace] = {}
    for halvings in range(most, -1, -1):
        smaller = paces.get(halvings + 1)
        if smaller is not None and sum(smaller[:4]) > _LONG:
            paces[halvings] = smaller.of_twice_the_size()
        else:
            paces[halvings] = _timed_steps(state, preprocessing, config, halvings)
    return paces


def _timed_steps(
    state: TrainingState, preprocessing: Preprocessing, config: TrainConfig, halvings: int
) -> _Pace:
    """Times one step of each kind on random volumes that are halved so many times."""
    count, shape = config.batch, preprocessing.shape
    volumes = torch.rand(count, 1 + channels(preprocessing.labels), *shape) * 2 - 1
    labelled = torch.ones(count, dtype=torch.bool)
    batch = Batch(volumes[:, :1], volumes[:, 1:], labelled).to(state.device)
    kinds = {"growth": (1.0,) * halvings, "volumes": 1_000_000, "penalty_every": 2}
    config = config.model_copy(update=kinds | {"encoder_every": 2})

    def timed(step: Callable[..., object], seen: int) -> float:
        seconds = 0.0
        for _ in range(2):
            state.volumes_seen = seen
            started = time.perf_counter()
            step(state, batch, config)
            if state.device.type == "cuda":
                torch.cuda.synchronize(state.device)
            seconds = time.perf_counter() - started
            if seconds > _SHORT:
                break
        return seconds

    def generator(state: TrainingState, batch: Batch, config: TrainConfig) -> None:
        generator_step(state, batch, config)
        average_step(state, config)

    penalised, encoding = timed(discriminator_step, 0), timed(generator, 0)
    # Halved volumes are always penalised; without, a step takes half as long (docs: Speed).
    plain = timed(discriminator_step, count) if halvings == 0 else penalised / 2
    return _Pace(penalised, plain, encoding, timed(generator, count))


def _times(numbers: Sequence[int | float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
