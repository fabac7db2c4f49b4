"""What a training will take, before it begins: parameters, memory and time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch

from medgan.core.config import Config, Preprocessing
from medgan.core.launched import launched
from medgan.core.ranks import Ranks
from medgan.core.system import gigabytes
from medgan.data.batches import Batch
from medgan.networks.device import choose_device
from medgan.training.memory import StepMemory, free_memory, predict_memory
from medgan.training.state import TrainingState
from medgan.training.steps import average_step
from medgan.training.tasks import chosen_task
from medgan.training.tasks.task import Task, fullest_step

_SHORT = 5.0
"""Steps of less than these seconds are timed once more: the first one also loads libraries."""
_SMALLEST = 8
"""Edge of the smallest volumes that are timed."""
_LONG = 20.0
"""Where one step of each kind takes more than these seconds, twice the size is not timed any more
but estimated: it has eight times the voxels."""


@dataclass(frozen=True)
class Forecast:
    """What a training will take.

    Attributes:
        preprocessing: grid and labels.
        device: where it would run.
        parameters: of each network.
        batch: volumes a step.
        ranks: processes that share each batch; memory and time are those of one.
        memory: of a step at full size.
        free: bytes that are free on the device; None where that cannot be found out.
        volumes: how many real volumes are seen.
        minutes: limit of the whole training; 0 for none.
        seconds_per_1000: volumes; None where that was not timed.
        estimated: whether the time was scaled from smaller volumes.
    """

    preprocessing: Preprocessing
    device: str
    parameters: dict[str, int]
    batch: int
    memory: StepMemory
    free: int
    volumes: int
    minutes: float
    seconds_per_1000: float | None = None
    estimated: bool = False
    ranks: int = 1

    @property
    def fits(self) -> bool:
        """Whether the device has the memory."""
        return self.memory.peak <= self.free

    @property
    def seconds(self) -> float | None:
        """The whole training, without reading scans, pictures and checkpoints."""
        if self.seconds_per_1000 is None:
            return None
        needed = self.volumes * self.seconds_per_1000 / 1000
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
        share = f"{self.batch // self.ranks} of " if self.ranks > 1 else ""
        each = f" in each of {self.ranks} processes" if self.ranks > 1 else ""
        free = f"{gigabytes(self.free)} free{'' if self.fits else ': does not fit'}"
        lines = [
            f"grid        {_times(grid.shape)} voxels of {_times(grid.spacing)} mm; labels: "
            f"{', '.join(map(str, grid.labels)) or 'none'}",
            *(f"parameters  {count:>12,}  {name}" for name, count in self.parameters.items()),
            f"parameters  {total:>12,}  in all",
            f"memory      {gigabytes(self.memory.peak)} at batch {share}{self.batch}{each}; "
            f"{self.device}, {free}",
            f"            discriminator's step {gigabytes(self.memory.discriminator)}, generator's "
            f"{gigabytes(self.memory.generator)}, of which {gigabytes(self.memory.resident)} stays",
        ]
        if self.seconds is not None and self.seconds_per_1000 is not None:
            how = ", estimated from smaller ones" if self.estimated else ""
            limited = ", the limit of train.minutes at most" if self.minutes else ""
            if self.ranks > 1:
                how += ", without the time to add up gradients"
            lines += [
                f"time        {_clock(self.seconds_per_1000)} per 1000 volumes{how}",
                f"            {_clock(self.seconds)} for {self.volumes:,}{limited}",
            ]
        return lines


def forecast(config: Config, preprocessing: Preprocessing) -> Forecast:
    """Predicts the memory of a training and times a few of its steps on random volumes.

    Steps are timed if they fit into memory; where that would take minutes, at smaller sizes.

    Args:
        config: of the training.
        preprocessing: grid and labels.

    Raises:
        EnvironmentFailure: E_DEVICE.
        ConfigError: E_RANKS when the processes cannot share a batch.
    """
    own = launched()
    share = Ranks(size=own.ranks).share_of(config.train.batch)
    device = choose_device(config.train.device)
    state = chosen_task(preprocessing, config).start(device)
    networks = state.all_networks()
    parameters = {
        name: sum(p.numel() for p in module.parameters()) for name, module in networks.items()
    }
    found = Forecast(
        preprocessing, device.type, parameters, config.train.batch,
        predict_memory(config, preprocessing, own.ranks),
        free_memory(device) // (1 if device.type == "cuda" else own.local_ranks),
        config.train.volumes, config.train.minutes, ranks=own.ranks,
    )  # fmt: skip
    if not found.fits:
        return found
    del state
    pace = _pace(config, preprocessing, device, share)
    task = chosen_task(preprocessing, config)
    seconds = 1000 / config.train.batch * pace.step(task)
    return replace(found, seconds_per_1000=seconds, estimated=pace.estimated)


class _Pace(NamedTuple):
    """Seconds of each kind of step.

    Attributes:
        penalised, plain: of the discriminator.
        encoding, bare: of the generator.
        alone: of the generator, before the discriminators take part.
        estimated: whether they were scaled from volumes of half the size.
    """

    penalised: float
    plain: float
    encoding: float
    bare: float
    alone: float
    estimated: bool = False

    def step(self, task: Task) -> float:
        """Mean seconds of a whole step, each kind as often as it comes."""
        penalty_every, encoder_every = task.periods
        critic = (self.penalised + (penalty_every - 1) * self.plain) / penalty_every
        generator = (self.encoding + (encoder_every - 1) * self.bare) / encoder_every
        return task.adversarial_from * self.alone + (1 - task.adversarial_from) * (
            critic + generator
        )

    def of_twice_the_size(self) -> "_Pace":
        times = (8 * seconds for seconds in self[:5])
        return _Pace(*times, estimated=True)


def _pace(config: Config, preprocessing: Preprocessing, device: torch.device, share: int) -> _Pace:
    """Times steps at sizes that double up to the full one, as long as that takes no minutes."""
    divisor, downsamplings = 2**config.model.downsamplings, 0
    while all(
        n % (divisor << (downsamplings + 1)) == 0 and n >> (downsamplings + 1) >= _SMALLEST
        for n in preprocessing.shape
    ):
        downsamplings += 1
    pace = None
    for times in range(downsamplings, -1, -1):
        if pace is not None and sum(pace[:5]) > _LONG:
            pace = pace.of_twice_the_size()
            continue
        x, y, z = (n >> times for n in preprocessing.shape)
        # Not checked: a size of 8 is none that could be configured, but good enough to be timed.
        smaller = preprocessing.model_copy(update={"shape": (x, y, z)})
        pace = _timed_steps(config, smaller, device, share)
    assert pace is not None
    return pace


def _timed_steps(
    config: Config, preprocessing: Preprocessing, device: torch.device, share: int
) -> _Pace:
    """Times one step of each kind on so many random volumes."""
    task = chosen_task(preprocessing, config)
    state, batch = task.start(device), task.example(share, device)

    def timed(step: Callable[[TrainingState, Batch], object], seen: int) -> float:
        seconds = 0.0
        for _ in range(2):
            state.volumes_seen = seen
            started = time.perf_counter()
            step(state, batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
            if seconds > _SHORT:
                break
        return seconds

    def generator(state: TrainingState, batch: Batch) -> None:
        task.generator_step(state, batch)
        average_step(state, task.schedule)

    full = fullest_step(task)
    other = full + config.train.batch
    return _Pace(
        penalised=timed(task.discriminator_step, full),
        plain=timed(task.discriminator_step, other),
        encoding=timed(generator, full),
        bare=timed(generator, other),
        alone=timed(generator, 0) if task.adversarial_from else 0.0,
    )


def _times(numbers: Sequence[int | float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
