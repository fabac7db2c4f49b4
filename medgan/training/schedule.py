"""How long a training runs, and what changes on the way: learning rate and weight average."""

from dataclasses import dataclass

from medgan.core.config import TrainConfig
from medgan.training.state import TrainingState

_AVERAGE_RAMP = 0.08
"""The average's half-life is at most this share of the volumes seen, so that the random start is
soon forgotten."""


@dataclass(frozen=True)
class Schedule:
    """The length of a training in volumes and minutes, and what depends on it.

    Attributes:
        volumes, minutes: when the training ends, whichever comes first; 0 minutes are no limit.
        batch: volumes a step.
        warmup: volumes over which the learning rate rises.
        learning_rate: Adam's, after the warm-up.
        half_life: of the weight average, in volumes.
        evaluate_every: volumes from one evaluation of samples to the next.
    """

    volumes: int
    minutes: float
    batch: int
    warmup: int
    learning_rate: float
    half_life: float
    evaluate_every: int

    @classmethod
    def of(cls, config: TrainConfig) -> "Schedule":
        """The schedule of a configuration."""
        return cls(
            config.volumes, config.minutes, config.batch, config.warmup, config.learning_rate,
            config.ema_half_life, config.sample_every,
        )  # fmt: skip

    @property
    def checkpoint_every(self) -> int:
        """Volumes from one checkpoint to the next."""
        return self.evaluate_every // 2

    def progress(self, state: TrainingState) -> float:
        """Share of the training that is done, by volumes or by minutes, whichever is further."""
        by_volumes = state.volumes_seen / self.volumes
        by_time = state.seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_volumes, by_time))

    def rate(self, state: TrainingState, since: float = 0.0) -> float:
        """The learning rate: rises over the warm-up, stays to a fifth, then falls linearly to 5%.

        Held for half of the training it kept samples on a plateau for most of that time. Every
        rollback halves it.

        Args:
            state: of the training.
            since: share of the training at which this part of it began.
        """
        progress = self.progress(state)
        seen = (progress - since) * self.volumes if since else state.volumes_seen
        rise = min(1.0, (seen + self.batch) / max(self.warmup, 1))
        fall = min(1.0, 1.25 * (1 - progress) / max(1 - since, 1e-9))
        return self.learning_rate * 0.5**state.monitor.rollbacks * rise * max(0.05, fall)

    def decay(self, state: TrainingState) -> float:
        """Share of its weights that the average keeps in a step."""
        half_life = min(self.half_life, _AVERAGE_RAMP * state.volumes_seen + self.batch / 2)
        return 0.5 ** (self.batch / half_life)

    def step_is_due(self, state: TrainingState, every: int) -> bool:
        """Whether a step that comes every so many steps comes now."""
        return (state.volumes_seen // self.batch) % every == 0

    def passed(self, state: TrainingState, every: int) -> bool:
        """Whether the step just done passed a multiple of `every` volumes."""
        return state.volumes_seen // every > (state.volumes_seen - self.batch) // every
