import pytest
import torch

from medgan.evaluation.sets.response import response

AGES = torch.tensor([20.0, 40.0, 60.0, 80.0])


def test_volumes_on_the_real_line_have_no_error():
    found = response(AGES, 0.1 + 0.01 * AGES, AGES.flip(0), 0.1 + 0.01 * AGES.flip(0))
    assert found.real_slope == pytest.approx(0.01)
    assert found.slope == pytest.approx(0.01)
    assert found.correlation == pytest.approx(1.0)
    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert found.bias == pytest.approx(0.0, abs=1e-6)


def test_volumes_above_the_line_are_biased_by_their_distance():
    found = response(AGES, 0.01 * AGES, AGES, 0.01 * AGES + 0.2)
    assert (found.error, found.bias) == (pytest.approx(0.2), pytest.approx(0.2))
    assert found.correlation == pytest.approx(1.0)


def test_volumes_that_go_the_other_way_correlate_negatively():
    found = response(AGES, 0.01 * AGES, AGES, -0.01 * AGES)
    assert found.correlation == pytest.approx(-1.0)
    assert found.slope == pytest.approx(-0.01)


def test_scatter_of_real_volumes_about_their_line_is_the_real_error():
    scatter = torch.tensor([0.1, -0.1, -0.1, 0.1])
    found = response(AGES, scatter, AGES, torch.zeros(4) + 0.3 * scatter)
    assert found.real_slope == pytest.approx(0.0, abs=1e-7)
    assert found.real_error == pytest.approx(0.1)
    assert found.error == pytest.approx(0.03)


@pytest.mark.parametrize("values", [AGES[:2], torch.full((5,), 50.0)])
def test_a_line_needs_three_volumes_of_different_values(values):
    with pytest.raises(ValueError, match="three volumes"):
        response(values, values, AGES, AGES)
