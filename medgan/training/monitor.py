"""What a training remembers of how it goes: alarms, the best look, when enough is enough."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from medgan.core.config import TrainConfig

LOW_DIVERSITY = 0.25
"""Share of the real volumes' diversity below which samples count as all alike. Healthy trainings
on hippocampi stay above 0.9."""
MOST_CLIPPED = 0.9
"""Samples are clipped to [-1, 1], so that a generator that has run away shows in nothing else: of
the voxels that real scans leave inside, this share is clipped. A random one clips a fifth."""
ABSURD = 1e6
"""No loss, penalty or gap of a healthy training comes near."""
WIDEST_GAP = 10.0
"""Between the discriminator's logits of real and fake scans; healthy trainings stay below 4."""
MOST_ABSURD_STEPS = 10
MOST_LOW_DIVERSITY = 2
MOST_ROLLBACKS = 2

METRICS: dict[str, Callable[[float], float]] = {
    "kernel_distance": float,
    "reconstruction": float,
    "diversity": lambda share: abs(share - 1),
    "precision": lambda share: 1 - share,
    "coverage": lambda share: 1 - share,
}
"""From a look's figure to what should be small: the choices of `train.metric`."""


class Alarm(Exception):
    """A training went wrong.

    Args:
        code: of the error if it cannot be mended.
        what: was seen.
        remedy: which settings help.
    """

    def __init__(self, code: str, what: str, remedy: str) -> None:
        super().__init__(code, what, remedy)
        self.code, self.what, self.remedy = code, what, remedy

    @classmethod
    def not_finite(cls) -> "Alarm":
        """E_NAN."""
        return cls(
            "E_NAN", "numbers are no longer finite",
            "lower train.learning_rate or raise train.gamma",
        )  # fmt: skip


@dataclass
class Monitor:
    """The memory of a training's course; it goes into every checkpoint.

    Attributes:
        rollbacks: how often the training went back; each halves the learning rate.
        absurd_steps: absurd steps less calm ones, never below 0.
        low_diversity_evaluations: looks in a row at samples that are all alike.
        metric: by which `best` was found.
        best: smallest value of the metric (of shares: distance from 1); None before the
            first look.
        best_at: volumes seen then.
        best_sha256: of the file with the averaged weights of that moment.
        evaluations_since_best: those of the second half of the training alone.
    """

    rollbacks: int = 0
    absurd_steps: int = 0
    low_diversity_evaluations: int = 0
    metric: str = ""
    best: float | None = None
    best_at: int = 0
    best_sha256: str = ""
    evaluations_since_best: int = 0

    @property
    def alarm_pending(self) -> bool:
        """Whether an alarm is pending: what is saved now may be damaged already."""
        return self.absurd_steps > 0 or self.low_diversity_evaluations > 0

    def step(self, figures: dict[str, float], config: TrainConfig) -> None:
        """Takes in the figures of a step; one noisy step is no alarm, ten in a row are.

        Args:
            figures: as the steps give them.
            config: for the objective: the gap of wgan-gp has no bound.

        Raises:
            Alarm: E_GAP, E_EXPLODED.
        """
        alarm = _absurd(figures, config)
        self.absurd_steps = self.absurd_steps + 1 if alarm else max(0, self.absurd_steps - 1)
        if alarm and self.absurd_steps >= MOST_ABSURD_STEPS:
            raise alarm

    def look(self, figures: dict[str, float], at: int, late: bool, config: TrainConfig) -> bool:
        """Takes in the figures of a look.

        Args:
            figures: as `look` gives them.
            at: volumes seen.
            late: whether the second half has begun. Only then do looks without a better metric
                count: the falling learning rate is still to sharpen what has come to rest.
            config: for the metric.

        Returns:
            Whether there was never a better one.

        Raises:
            Alarm: E_EXPLODED at once, E_COLLAPSE when the look before was low as well.
        """
        # Averaged weights and many volumes: not noise, and perhaps the last look there is.
        if not figures["samples/clipped"] <= MOST_CLIPPED:
            raise _exploded("samples/clipped", figures["samples/clipped"])
        share = figures["samples/diversity"]
        self.low_diversity_evaluations = (
            0 if share >= LOW_DIVERSITY else self.low_diversity_evaluations + 1
        )
        if self.low_diversity_evaluations >= MOST_LOW_DIVERSITY:
            raise Alarm(
                "E_COLLAPSE", f"samples vary {share:.0%} as much as real scans",
                "use more data, raise train.gamma or lower train.learning_rate",
            )  # fmt: skip
        if self.metric != config.metric:
            self.metric, self.best, self.evaluations_since_best = config.metric, None, 0
        value = METRICS[config.metric](figures[f"samples/{config.metric}"])
        if (
            not self.alarm_pending
            and math.isfinite(value)
            and (self.best is None or value < self.best)
        ):
            self.best, self.best_at, self.evaluations_since_best = value, at, 0
            return True
        self.evaluations_since_best += late
        return False

    def stop_reason(self, config: TrainConfig) -> str:
        """Why the training can stop early; empty while it should go on."""
        if self.metric != config.metric or self.best is None:
            return ""
        if config.stop_at is not None and self.best <= config.stop_at:
            return f"{self.metric} {self.best:.4g} reached train.stop_at"
        if config.patience and self.evaluations_since_best >= config.patience:
            return f"no better {self.metric} in {self.evaluations_since_best} looks"
        return ""


def _absurd(figures: dict[str, float], config: TrainConfig) -> Alarm | None:
    """What no healthy step shows, or None."""
    for name, value in figures.items():
        limit = MOST_CLIPPED if name == "generator/clipped" else ABSURD
        if not abs(value) <= limit:  # so that NaN is absurd
            return _exploded(name, value)
        if name.endswith("/gap") and config.objective != "wgan-gp" and abs(value) > WIDEST_GAP:
            return Alarm(
                "E_GAP", f"{name} is {value:.3g}, so one side has won",
                "raise train.gamma or lower train.learning_rate",
            )  # fmt: skip
    return None


def _exploded(name: str, value: float) -> Alarm:
    return Alarm(
        "E_EXPLODED", f"{name} is {value:.3g}", "lower train.learning_rate or raise train.gamma"
    )
