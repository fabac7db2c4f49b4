import pytest

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.data.manifest import Case
from medgan.workflows.augmented.requests import make_requests

SEX = Condition(name="sex", kind="categorical", values=("F", "M"), shares=(0.5, 0.5))


def cases(sexes):
    return [
        Case(
            f"c-{n}",
            f"s-{n}",
            {"image": "i"},
            None,
            {"image": str(n)},
            None,
            (8, 8, 8),
            (1.0, 1.0, 1.0),
            (),
            {"sex": s},
        )
        for n, s in enumerate(sexes)
    ]


def asked(sexes, ratio=1.0, balance=""):
    return [r.conditions for r in make_requests(cases(sexes), [SEX], ratio, balance, {})]


@pytest.mark.parametrize(("ratio", "count"), [(1.0, 6), (0.5, 3), (0.0, 0), (2.5, 15)])
def test_the_ratio_counts_synthetic_scans_for_each_real_one(ratio, count):
    assert asked("FFFMMM", ratio) == [{}] * count


def test_balance_comes_first_and_the_rest_of_the_ratio_is_spread_evenly():
    found = asked("FMMMMM", ratio=1.0, balance="sex")
    assert found == [{"sex": "F"}] * 4 + [{"sex": "F"}, {"sex": "M"}]
    assert [f["sex"] for f in found].count("F") + 1 == [f["sex"] for f in found].count("M") + 5


def test_balance_is_made_in_full_even_where_the_ratio_asks_for_less():
    assert asked("FMMMMM", ratio=0.0, balance="sex") == [{"sex": "F"}] * 4
    assert asked("FMMMMM", ratio=0.1, balance="sex") == [{"sex": "F"}] * 4


def test_a_larger_ratio_begins_with_the_scans_of_a_smaller_one():
    few, many = asked("FMM", ratio=1.0, balance="sex"), asked("FMM", ratio=3.0, balance="sex")
    assert many[: len(few)] == few
    assert len(many) == 9


def test_a_condition_that_is_no_category_of_the_model_is_refused():
    with pytest.raises(ConfigError, match=r"E_CONDITION age: .*it has sex"):
        asked("FM", balance="age")


def test_what_is_balanced_has_no_fixed_value():
    with pytest.raises(ConfigError, match="E_CONDITION sex: cannot be balanced and have a fixed"):
        make_requests(cases("FFM"), [SEX], 1.0, "sex", {"sex": "F"})


def test_what_cannot_be_balanced_is_said(caplog):
    assert asked(["F", "F", "", "n/a"], ratio=0.5, balance="sex") == [{"sex": "F"}] * 2
    assert "2 training scans have no sex" in caplog.text
    assert "nothing to balance" in caplog.text
    caplog.clear()
    asked("FFM", balance="sex")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
