"""Watches a training: alarms, the best evaluation so far, and when to stop early."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from medgan.core.config import TrainConfig

LOW_DIVERSITY = 0.25
"""Share of the real volumes' diversity below which samples count as collapsed. Healthy trainings
on hippocampi stay above 0.9."""
MOST_CLIPPED = 0.9
"""Share of clipped voxels, among those that real scans do not clip, that counts as exploded.
Samples are clipped to [-1, 1], so no other metric shows it. A random generator clips a fifth."""
ABSURD = 1e6
"""Losses, penalties and gaps of healthy trainings stay far below."""
WIDEST_GAP = 10.0
"""Between a discriminator's logits of real and fake scans; healthy trainings stay below 4."""
MOST_ABSURD_STEPS = 10
MOST_LOW_DIVERSITY = 2
MOST_ROLLBACKS = 2

METRICS: dict[str, Callable[[float], float]] = {
    "kernel_distance": float,
    "reconstruction": float,
    "restoration": float,
    "translation": float,
    "diversity": lambda share: abs(share - 1),
    "precision": lambda share: 1 - share,
    "coverage": lambda share: 1 - share,
}
"""From a metric of an evaluation to what should be small: the choices of `train.metric`."""


class Alarm(Exception):
    """A training went wrong.

    Args:
        code: of the error if training cannot recover.
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


@dataclass(frozen=True)
class Criteria:
    """By what a training is judged.

    Attributes:
        metric: that chooses the weights and stops early, of `METRICS`.
        stop_at: the training ends once the metric is this small; None never.
        patience: or after so many late evaluations without a better one; 0 never.
        bounded_gap: whether a discriminator's gap beyond `WIDEST_GAP` is an alarm; that of wgan-gp
            has no bound.
        chooses: whether the weights of the best evaluation are kept. Of sequences the last ones
            are: the best single volumes may move worst.
    """

    metric: str
    stop_at: float | None
    patience: int
    bounded_gap: bool
    chooses: bool

    @classmethod
    def of(cls, config: TrainConfig) -> "Criteria":
        """The criteria of a configuration."""
        bounded = config.objective != "wgan-gp"
        chooses = config.task != "sequence"
        return cls(config.metric, config.stop_at, config.patience, bounded, chooses)


@dataclass
class Monitor:
    """The course of a training so far; it goes into every checkpoint.

    Attributes:
        rollbacks: how often the training went back; each halves the learning rate.
        absurd_steps: absurd steps less normal ones, never below 0.
        low_diversity_evaluations: evaluations in a row with samples that hardly vary.
        metric: by which `best` was found.
        best: smallest value of the metric (of shares: distance from 1); None before the
            first evaluation.
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

    def step(self, metrics: dict[str, float], criteria: Criteria) -> None:
        """Takes in the metrics of a step; one noisy step is no alarm, ten in a row are.

        Args:
            metrics: as the steps give them.
            criteria: for the gap.

        Raises:
            Alarm: E_GAP, E_EXPLODED.
        """
        alarm = _absurd(metrics, criteria)
        self.absurd_steps = self.absurd_steps + 1 if alarm else max(0, self.absurd_steps - 1)
        if alarm and self.absurd_steps >= MOST_ABSURD_STEPS:
            raise alarm

    def evaluation(
        self, metrics: dict[str, float], at: int, late: bool, criteria: Criteria
    ) -> bool:
        """Takes in the metrics of an evaluation.

        Args:
            metrics: as a task's evaluator gives them.
            at: volumes seen.
            late: whether the second half has begun. Only then do evaluations without a better
                metric count, because the falling learning rate still sharpens samples.
            criteria: for the metric.

        Returns:
            Whether there was never a better one.

        Raises:
            Alarm: E_EXPLODED at once, E_COLLAPSE when the evaluation before was low as well.
        """
        # Averaged weights and many volumes: this is no noise, and may be the last evaluation.
        if not metrics["samples/clipped"] <= MOST_CLIPPED:
            raise _exploded("samples/clipped", metrics["samples/clipped"])
        share = metrics["samples/diversity"]
        self.low_diversity_evaluations = (
            0 if share >= LOW_DIVERSITY else self.low_diversity_evaluations + 1
        )
        if self.low_diversity_evaluations >= MOST_LOW_DIVERSITY:
            raise Alarm(
                "E_COLLAPSE", f"samples vary {share:.0%} as much as real scans",
                "use more data, raise train.gamma or lower train.learning_rate",
            )  # fmt: skip
        if self.metric != criteria.metric:
            self.metric, self.best, self.evaluations_since_best = criteria.metric, None, 0
        value = METRICS[criteria.metric](metrics[f"samples/{criteria.metric}"])
        if (
            not self.alarm_pending
            and math.isfinite(value)
            and (self.best is None or value < self.best)
        ):
            self.best, self.best_at, self.evaluations_since_best = value, at, 0
            return True
        self.evaluations_since_best += late
        return False

    def stop_reason(self, criteria: Criteria) -> str:
        """Why the training can stop early; empty while it should go on."""
        if self.metric != criteria.metric or self.best is None:
            return ""
        if criteria.stop_at is not None and self.best <= criteria.stop_at:
            return f"{self.metric} {self.best:.4g} reached train.stop_at"
        if criteria.patience and self.evaluations_since_best >= criteria.patience:
            return f"no better {self.metric} in {self.evaluations_since_best} evaluations"
        return ""


def _absurd(metrics: dict[str, float], criteria: Criteria) -> Alarm | None:
    """The alarm of a step with values that no healthy step has, or None."""
    for name, value in metrics.items():
        limit = MOST_CLIPPED if name == "generator/clipped" else ABSURD
        if not abs(value) <= limit:  # so that NaN is absurd
            return _exploded(name, value)
        if name.endswith("/gap") and criteria.bounded_gap and abs(value) > WIDEST_GAP:
            return Alarm(
                "E_GAP", f"{name} is {value:.3g}, so one side has won",
                "raise train.gamma or lower train.learning_rate",
            )  # fmt: skip
    return None


def _exploded(name: str, value: float) -> Alarm:
    return Alarm(
        "E_EXPLODED", f"{name} is {value:.3g}", "lower train.learning_rate or raise train.gamma"
    )
