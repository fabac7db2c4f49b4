"""Headers with random damage: nibabel, SimpleITK and medgan read the same, or medgan refuses.

docs/scripts/mutate_headers.py does the same a million times.
"""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs/scripts/mutate_headers.py"
COUNTED = ("accepted", "not compared: W_TWO_FORMS", "not compared: W_ORIENTATION")


@pytest.fixture(scope="module")
def search():
    spec = importlib.util.spec_from_file_location("mutate_headers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.search


@pytest.mark.fault(14)
@pytest.mark.fault("two readers")
@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_what_is_accepted_has_one_geometry_in_three_readers(search, count, measured) -> None:
    found = search(count, seed=1, sitk=True)
    outcomes = found["outcomes"]
    wrong = {key for key in outcomes if not key.startswith("E_") and key not in COUNTED}
    assert not wrong, found
    assert outcomes["accepted"] > count / 3
    assert found["slowest_s"] < 1
    same = outcomes["accepted"] - sum(outcomes.get(key, 0) for key in COUNTED[1:])
    measured(
        f"{count:,} damaged headers: {same:,} read with one geometry by nibabel and SimpleITK, "
        f"{count - outcomes['accepted']:,} refused by type, none slower than 1 s"
    )
