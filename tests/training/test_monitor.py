import math

import pytest

from medgan.core.config import TrainConfig
from medgan.training.monitor import (
    METRICS,
    MOST_ABSURD_STEPS,
    MOST_LOW_DIVERSITY,
    Alarm,
    Criteria,
    Monitor,
)
from tests.kit.models import CONFIG

CALM = {"critic/gap": 1.0, "pair/gap": -0.5, "generator/clipped": 0.1, "critic/r1": 0.01}
SEEN = {
    "samples/kernel_distance": 3.0,
    "samples/reconstruction": 0.3,
    "samples/clipped": 0.1,
    "samples/diversity": 1.0,
}


def criteria(**settings) -> Criteria:
    return Criteria.of(CONFIG.train.model_copy(update=settings))


def evaluation(monitor, at=8, late=True, settings=None, **metrics) -> bool:
    named = {f"samples/{name}": value for name, value in metrics.items()}
    return monitor.evaluation(SEEN | named, at, late, settings or criteria())


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("critic/gap", 10.1, "E_GAP"),
        ("pair/gap", -10.1, "E_GAP"),
        ("generator/clipped", 0.95, "E_EXPLODED"),
        ("critic/r1", 1e7, "E_EXPLODED"),
        ("generator/critic", math.nan, "E_EXPLODED"),
    ],
)
def test_what_stays_absurd_raises_the_alarm_and_what_is_absurd_once_does_not(name, value, code):
    monitor = Monitor()
    for _ in range(50):
        monitor.step(CALM, criteria())
        monitor.step(CALM | {name: value}, criteria())
    monitor = Monitor()
    for _ in range(MOST_ABSURD_STEPS - 1):
        monitor.step(CALM | {name: value}, criteria())
    assert monitor.alarm_pending
    with pytest.raises(Alarm) as caught:
        monitor.step(CALM | {name: value}, criteria())
    assert caught.value.code == code
    assert name in caught.value.what


def test_calm_steps_take_strikes_away():
    monitor = Monitor(absurd_steps=3)
    for _ in range(5):
        monitor.step(CALM, criteria())
    assert monitor.absurd_steps == 0
    assert not monitor.alarm_pending


def test_a_gap_without_bound_is_allowed_by_wgan_gp():
    monitor = Monitor()
    for _ in range(3 * MOST_ABSURD_STEPS):
        monitor.step(CALM | {"critic/gap": 900.0}, criteria(objective="wgan-gp"))
    assert not monitor.alarm_pending


@pytest.mark.fault(35)
def test_samples_that_are_all_alike_twice_running_are_a_collapse(measured):
    monitor = Monitor()
    evaluation(monitor, diversity=0.2)
    assert monitor.alarm_pending
    evaluation(monitor, diversity=0.9)
    for _ in range(MOST_LOW_DIVERSITY - 1):
        evaluation(monitor, diversity=0.2)
    with pytest.raises(Alarm, match="E_COLLAPSE"):
        evaluation(monitor, diversity=0.2)
    measured(f"E_COLLAPSE at {MOST_LOW_DIVERSITY} evaluations without diversity in a row")


@pytest.mark.parametrize("value", [0.95, math.inf, math.nan])
def test_an_average_that_is_clipped_nearly_everywhere_is_an_alarm_at_once(value):
    with pytest.raises(Alarm, match="E_EXPLODED"):
        evaluation(Monitor(), clipped=value)


def test_the_best_evaluation_is_the_first_of_the_smallest():
    monitor = Monitor()
    values = {2: 3.0, 4: 2.0, 6: 2.0, 8: 2.5, 10: math.nan, 12: 1.0}
    assert [at for at, v in values.items() if evaluation(monitor, at, kernel_distance=v)] == [
        2,
        4,
        12,
    ]
    assert (monitor.best, monitor.best_at) == (1.0, 12)


def test_an_evaluation_with_an_alarm_pending_is_never_the_best():
    assert not evaluation(Monitor(absurd_steps=1))
    assert not evaluation(Monitor(), diversity=0.2)


def test_the_best_diversity_is_that_of_real_scans():
    monitor = Monitor()
    settings = criteria(metric="diversity")
    better = [
        evaluation(monitor, settings=settings, diversity=v) for v in (3.0, 0.5, 1.4, 0.6, 1.1)
    ]
    assert better == [True, True, True, False, True]


@pytest.mark.parametrize("name", ["precision", "coverage"])
def test_of_shares_the_largest_is_the_best(name):
    monitor, settings = Monitor(), criteria(metric=name)
    better = [evaluation(monitor, settings=settings, **{name: v}) for v in (0.2, 0.9, 0.5, 1.0)]
    assert better == [True, True, False, True]


def test_another_metric_starts_over():
    monitor = Monitor()
    evaluation(monitor, kernel_distance=0.1)
    assert evaluation(monitor, settings=criteria(metric="reconstruction"), reconstruction=0.5)
    assert monitor.stop_reason(criteria(stop_at=1.0)) == ""


def test_every_metric_that_can_be_chosen_has_a_direction():
    choices = TrainConfig.model_fields["metric"].annotation.__args__
    assert set(choices) == set(METRICS)


def test_it_is_enough_when_the_metric_reaches_the_threshold():
    monitor = Monitor()
    evaluation(monitor, kernel_distance=0.5)
    assert not monitor.stop_reason(criteria())
    assert not monitor.stop_reason(criteria(stop_at=0.4))
    assert "train.stop_at" in monitor.stop_reason(criteria(stop_at=0.5))


def test_it_is_enough_when_evaluations_of_the_second_half_bring_nothing_better():
    monitor = Monitor()
    for late in (False, False, False, True, True):
        evaluation(monitor, late=late)
    assert not monitor.stop_reason(criteria(patience=0))
    assert not monitor.stop_reason(criteria(patience=3))
    assert "2 evaluations" in monitor.stop_reason(criteria(patience=2))
    evaluation(monitor, kernel_distance=1.0)
    assert not monitor.stop_reason(criteria(patience=2))
