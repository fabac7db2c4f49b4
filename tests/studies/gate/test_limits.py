"""Limits of a gate."""

import math

import pytest

from medgan.core.config import GateConfig, Limit
from medgan.core.errors import ConfigError
from medgan.evaluation.interval import Interval, proportion
from medgan.studies.gate.limits import METRICS, checks, failed


def limit(**values):
    return Limit(**values)


def exact(value):
    return Interval(value, value - 0.05, value + 0.05)


def passes(value, champion=None, name="auroc", **values):
    found = checks({name: value}, None if champion is None else {name: champion},
                   {name: limit(**values)})  # fmt: skip
    return all(one.passed for one in found)


def test_a_value_is_held_against_the_least_and_the_most():
    assert passes(exact(0.7), least=0.7)
    assert not passes(exact(0.69), least=0.7)
    assert passes(exact(0.3), name="kernel_distance", most=0.3)
    assert not passes(exact(0.31), name="kernel_distance", most=0.3)
    assert not passes(exact(math.nan), least=0.1)


def test_worse_than_the_champion_counts_in_the_direction_of_the_metric():
    assert passes(exact(0.70), exact(0.72), worse_by=0.021)
    assert not passes(exact(0.70), exact(0.73), worse_by=0.02)
    assert passes(exact(0.9), exact(0.1), worse_by=0.0)
    assert passes(exact(0.1), exact(0.9), name="kernel_distance", worse_by=0.0)
    assert not passes(exact(0.5), exact(0.3), name="kernel_distance", worse_by=0.1)


def test_without_a_champion_nothing_is_compared():
    assert passes(exact(0.1), None, worse_by=0.0)


def test_false_alarms_fail_only_where_chance_does_not_explain_them():
    assert passes(proportion(2, 20), name="false_alarms", most=0.05)
    assert not passes(proportion(5, 20), name="false_alarms", most=0.05)


def test_what_neither_has_does_not_apply_and_what_the_champion_has_is_missed():
    one, *_ = checks({}, None, {"auroc": limit(least=0.7)})
    assert one.passed
    assert "does not apply" in one.finding
    found = checks({}, {"auroc": exact(0.8)}, {"auroc": limit(least=0.7)})
    assert not found[0].passed
    assert "cannot be measured" in found[0].finding


def test_a_model_of_which_nothing_is_measured_does_not_pass():
    assert failed(checks({}, None, {"auroc": limit(least=0.7)})) == (
        "scope: nothing that the gate measures applies to it",
    )


def test_every_reason_is_said():
    found = checks({"auroc": exact(0.5)}, {"auroc": exact(0.8)},
                   {"auroc": limit(least=0.7, worse_by=0.1)})  # fmt: skip
    assert failed(found) == (
        "AUROC: 0.5 (0.45 to 0.55), the champion 0.8; less than 0.7; worse than the champion by "
        "more than 0.1",
    )


def test_limits_name_known_metrics_and_say_something():
    from medgan.core.config import build

    assert set(build({"gate": {"limits": {"auroc": {"least": 0.7}}}}).gate.limits) <= set(METRICS)
    for wrong in ({"auroc": {}}, {"roc": {"least": 0.7}}, {"auroc": {"worse_by": -1}}):
        with pytest.raises(ConfigError):
            build({"gate": {"limits": wrong}})
    assert GateConfig().limits == {}
