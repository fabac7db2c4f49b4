"""Scorers are chosen by what they find, and never do worse than the best of them."""

import numpy as np
import pytest

from medgan.anomaly.choice import Trial, choose, power

VOXELS = 200


def trial(rng, contrasts, sick):
    """Noise by scorer, raised by its contrast where the lesion is."""
    truth = np.zeros(VOXELS, bool)
    if sick:
        truth[rng.integers(VOXELS - 20) + np.arange(20)] = True
    maps = {n: rng.standard_normal(VOXELS) + c * truth for n, c in contrasts.items()}
    scores = {name: float(np.sort(one)[-10:].mean()) for name, one in maps.items()}
    return Trial(scores, maps, truth if sick else None)


def trials(contrasts, seed=0):
    rng = np.random.default_rng(seed)
    return [trial(rng, contrasts, False) for _ in range(8)], [
        trial(rng, contrasts, True) for _ in range(24)
    ]


def test_a_scorer_that_finds_nothing_is_not_used():
    choice = choose(("blind", "sharp"), *trials({"blind": 0.0, "sharp": 3.0}))
    assert choice.scorers == ("sharp",)
    assert list(choice.alone) == ["sharp", "blind"]


def test_scorers_that_see_the_same_through_different_noise_are_combined():
    contrasts = {"one": 1.5, "two": 1.5, "blind": 0.0}
    healthy, sick = trials(contrasts)
    choice = choose(tuple(contrasts), healthy, sick)
    assert set(choice.scorers) == {"one", "two"}
    assert choice.power > max(choice.alone.values()) + 0.02
    assert choice.power == pytest.approx(power(("one", "two"), healthy, sick))


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_never_worse_than_its_best_part(seed):
    contrasts = dict(zip("abcd", np.random.default_rng(seed).uniform(0, 2, 4), strict=True))
    choice = choose(tuple(contrasts), *trials(contrasts, seed))
    assert choice.power >= max(choice.alone.values())


def test_the_card_says_what_was_chosen_and_how_well_each_does():
    contrasts = {"blind": 0.0, "sharp": 3.0}
    healthy, sick = trials(contrasts)
    choice = choose(tuple(contrasts), healthy, sick)
    expected = f"sharp {choice.power:.2f} (alone: sharp {choice.alone['sharp']:.2f}, blind "
    assert choice.text().startswith(expected)


def test_the_power_is_one_where_every_lesion_stands_out_and_half_the_prevalence_where_none_does():
    healthy, sick = trials({"sharp": 60.0})
    assert power(("sharp",), healthy, sick) == 1.0
    flat = [Trial({"flat": 0.0}, {"flat": np.zeros(VOXELS)}, one.truth) for one in sick]
    assert power(("flat",), flat[:3], flat) == pytest.approx(20 / VOXELS / 2)
