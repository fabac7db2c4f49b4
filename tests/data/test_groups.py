import pytest

from medgan.data.groups import age_of, groups_of


@pytest.mark.parametrize(
    ("covariates", "groups"),
    [
        ({"age": "39.9", "sex": "M"}, ["sex M", "age below 40"]),
        ({"Age": 40, "gender": "F"}, ["sex F", "age 40 to 59"]),
        ({"age": "80", "sex": "n/a", "gender": "F"}, ["sex F", "age 80 and above"]),
        ({"age": "n/a", "sex": "unknown"}, []),
        ({"age": "nan", "sex": ""}, []),
        ({"age": "inf", "sex": "F"}, ["sex F"]),
        ({}, []),
    ],
)
def test_groups_are_of_what_is_known(covariates, groups):
    assert groups_of(covariates) == groups


@pytest.mark.parametrize("age", ["nan", "inf", "-inf", float("nan"), float("inf"), "old", "", None])
def test_what_is_no_finite_number_is_no_age(age):
    assert age_of({"Age": age}) is None
