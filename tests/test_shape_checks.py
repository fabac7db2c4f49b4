"""Types and shapes are checked while tests run: a wrong call of the package fails its test."""

from collections.abc import Iterator

import beartype
import numpy as np
import pytest
from jaxtyping import Float

from medgan.anomaly.calibration import conformal_p_value
from medgan.data.conditions import number_of
from medgan.networks.losses import relativistic_discriminator_loss
from tests.kit.shape_checks import checked, names_axes

SHAPED = Float[np.ndarray, "A A"]


def test_functions_of_the_package_refuse_wrong_types_and_shapes():
    with pytest.raises(Exception, match="type"):
        number_of(3, "4")
    with pytest.raises(Exception, match="type"):
        conformal_p_value("2.5", [1.0])
    with pytest.raises(Exception, match="type"):
        relativistic_discriminator_loss(np.zeros(3), np.zeros(3))


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (int, False), (dict[str, list[int]], False), (Iterator[int | None], False),
        (SHAPED, True), (dict[str, SHAPED], True), (SHAPED | None, True),
        (list["Float"], True), ("int", True),
    ],
)  # fmt: skip
def test_axes_are_found_wherever_an_annotation_names_them(annotation, named):
    assert names_axes(annotation) == named


def test_a_function_that_names_axes_has_their_sizes_compared_and_another_its_types():
    @checked(typechecker=beartype.beartype)
    def square(a: SHAPED) -> int:
        return len(a)

    @checked(typechecker=beartype.beartype)
    def double(n: int) -> int:
        return 2 * n if n else "none"

    assert (square(np.zeros((2, 2))), double(2)) == (2, 4)
    for wrong in (lambda: square(np.zeros((2, 3))), lambda: double("2"), lambda: double(0)):
        with pytest.raises(Exception, match="type"):
            wrong()
