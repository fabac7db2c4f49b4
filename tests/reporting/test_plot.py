import math

import numpy as np
import pytest

from medgan.reporting.plot import MOST_POINTS, Point, Score, curve, distribution, scatter


def test_a_goal_is_a_line_that_lies_within_the_plot_however_far_it_is():
    for goal in (0.5, 3.0, -40.0, 90.0):
        plot = curve("kernel distance", [1, 2, 3], [4.0, 3.0, 2.0], "volumes", goal)
        assert plot.goal is not None
        assert plot.box[1] <= plot.goal <= plot.box[3]
        assert plot.text.endswith(f"the training stops at {goal:g}")
    assert curve("loss", [1, 2], [4.0, 3.0], "volumes").goal is None


def inside(plot, x, y):
    left, top, right, bottom = plot.box
    return left - 0.1 <= x <= right + 0.1 and top - 0.1 <= y <= bottom + 0.1


@pytest.mark.parametrize("scale", [1e-9, 0.003, 1.0, 7.5, 4e6])
def test_a_curve_lies_between_its_ticks_and_they_are_round_and_apart(scale):
    y = scale * np.array([0.3, 1.7, 0.9, 1.1])
    plot = curve("loss", [4, 8, 12, 16], list(y), "volumes seen")
    assert all(inside(plot, *point) for point in plot.points)
    heights = [up for _, up in plot.points]
    assert np.argmin(heights) == 1  # the highest metric is nearest to the top
    assert np.argmax(heights) == 0
    texts = [tick.text for tick in plot.ys]
    assert 3 <= len(set(texts)) == len(texts) <= 7
    low, high = (float(t.replace(",", "")) for t in (texts[0], texts[-1]))
    assert low <= y.min()
    assert high >= y.max()


def test_metrics_that_are_not_finite_are_left_out_and_none_at_all_is_said():
    plot = curve("loss", [1, 2, 3], [1.0, math.nan, 2.0], "volumes")
    assert len(plot.points) == 2
    assert "no values" in curve("loss", [1], [math.inf], "volumes").text
    assert len(curve("loss", [5], [3.0], "volumes").points) == 1


def test_a_long_curve_is_thinned_but_keeps_its_course():
    plot = curve("loss", list(range(30_000)), [1.0] * 15_000 + [3.0] * 15_000, "volumes")
    assert len(plot.points) == MOST_POINTS
    heights = {round(up) for _, up in plot.points}
    assert len(heights) == 2


def test_every_score_is_a_dot_and_every_healthy_scan_is_counted():
    rng = np.random.default_rng(0)
    healthy = list(rng.normal(size=200))
    scores = [Score(f"c-{n}", float(s), "plain") for n, s in enumerate(rng.normal(2, 3, 50))]
    plot = distribution(healthy, scores, 1.6)
    assert len(plot.dots) == 50
    assert all(inside(plot, dot.x, dot.y) for dot in plot.dots)
    floor = plot.box[3]
    unit = (plot.ys[0].at - plot.ys[-1].at) / float(plot.ys[-1].text)
    assert sum((floor - bar.y) / unit for bar in plot.bars) == pytest.approx(200)
    assert all(bar.y + bar.height == pytest.approx(floor) for bar in plot.bars)
    right = [dot for dot, score in zip(plot.dots, scores, strict=True) if score.value > 1.6]
    assert plot.limit is not None
    assert all(dot.x > plot.limit for dot in right)


def test_a_distribution_without_scans_or_without_calibration_can_be_drawn():
    assert distribution([0.0, 1.0], [], None).dots == []
    assert distribution([], [Score("c", 3.0, "odd")], None).bars == []


def over(*settings):
    """Positions of points over these settings, and the texts of the ticks."""
    points = [Point(text, float(n), "finished", "") for n, text in enumerate(settings)]
    plot = scatter("loss", points, "train.gamma")
    assert all(inside(plot, dot.x, dot.y) for dot in plot.dots)
    assert all(inside(plot, tick.at, plot.box[3]) for tick in plot.xs)
    return [dot.x for dot in plot.dots], [tick.text for tick in plot.xs]


def test_few_numbers_and_words_stand_side_by_side_and_numbers_in_their_order():
    places, ticks = over("100", "30", "100")
    assert ticks == ["30", "100"]
    assert places[0] == places[2] > places[1]
    assert over("hinge", "wgan-gp", "hinge", "a", "b", "c", "d")[1][:2] == ["hinge", "wgan-gp"]


def test_many_numbers_lie_along_an_axis_which_is_logarithmic_over_a_factor_of_ten():
    places, _ = over("10", "12", "14", "16", "18", "20")
    assert np.ptp(np.diff(places)) == pytest.approx(0, abs=1e-9)
    places, ticks = over("1e-05", "0.0001", "0.001", "0.01", "0.1", "1")
    assert np.ptp(np.diff(places)) == pytest.approx(0, abs=1e-9)
    assert ticks == ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]
    assert over("1", "2", "3", "4", "5", "20")[1] == ["1", "2", "5", "10", "20"]


def test_curves_with_one_span_have_one_scale():
    two = [curve("a", [1, 2], values, "volumes", span=(0, 9)) for values in ([1, 2], [7, 8])]
    assert two[0].ys == two[1].ys
