from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.data.categories import count_categories, lacking
from medgan.data.conditions import (
    check,
    covariate_of,
    covariates_of,
    draw,
    encode,
    learn,
    width,
    widths,
)
from medgan.data.index import index
from medgan.data.manifest import Case, Manifest
from medgan.data.pseudonyms import Pseudonyms
from tests.kit.data_sets import write_folder

AGE = Condition(
    name="age", kind="continuous", mean=50, spread=10, quantiles=tuple(np.linspace(20, 80, 21))
)
SEX = Condition(name="sex", kind="categorical", values=("F", "M"), shares=(0.75, 0.25))
BOTH = (SEX, AGE)


def case(**covariates: str) -> Case:
    return Case(
        case="c", subject="s", images={"image": "i"}, label=None, hashes={"image": ""},
        label_sha256=None, shape=(1, 1, 1), spacing=(1.0, 1.0, 1.0), labels=(),
        covariates=covariates,
    )  # fmt: skip


# Learning


def test_a_category_is_learned_with_its_share_of_the_known_ones():
    cases = [case(sex=value) for value in ("M", "F", "F", "n/a", "", "F")] + [case()]
    (sex,) = learn({"sex": "categorical"}, cases)
    assert (sex.values, sex.shares) == (("F", "M"), (0.75, 0.25))


def test_a_number_is_learned_by_mean_spread_and_quantiles_and_no_row_is_kept():
    ages = np.random.default_rng(0).uniform(20, 80, 500).round(3)
    (age,) = learn({"age": "continuous"}, [case(age=str(a)) for a in ages] + [case(age="n/a")])
    assert (age.mean, age.spread) == pytest.approx((ages.mean(), ages.std()))
    assert len(age.quantiles) == 21
    assert (age.quantiles[0], age.quantiles[10], age.quantiles[20]) == pytest.approx(
        (ages.min(), np.median(ages), ages.max())
    )


def test_a_constant_number_has_a_spread_that_can_be_divided_by():
    (age,) = learn({"age": "continuous"}, [case(age="7")] * 3)
    assert encode((age,), {"age": 7.0}).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"agee": "continuous"}, "E_CONDITION agee: no training scan has a value.*age, id, sex"),
        ({"sex": "continuous"}, "E_CONDITION sex: 'F' is not a number"),
        ({"id": "categorical"}, "E_CONDITION id: 70 categories; make it continuous or leave"),
        ({"label_1_mm3": "continuous"}, "E_CONDITION label_1_mm3: no training scan has a value"),
    ],
)
def test_what_cannot_be_learned_is_refused(settings, text):
    cases = [case(sex="F", age="3", id=f"x{n}") for n in range(70)]
    with pytest.raises(ConfigError, match=text):
        learn(settings, cases)


def test_the_volume_of_a_label_is_measured_on_the_scanners_grid(tmp_path: Path):
    label = np.zeros((8, 8, 8), np.uint8)
    label[:2, :3, :4] = 3
    label[4:, 4:, 4:] = 5
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    image = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    Volume(image, affine).save(tmp_path / "a.nii.gz")
    Volume(label, affine).save(tmp_path / "a_seg.nii.gz")
    manifest, _ = index(tmp_path, Pseudonyms(b"x"))
    manifest.save(tmp_path / "m.json")
    (one,) = Manifest.load(tmp_path / "m.json").cases
    assert one == manifest.cases[0]
    assert covariate_of(one, "label_3_mm3") == 24 * 3.0
    assert covariate_of(one, "label_5_mm3") == 64 * 3.0
    assert covariate_of(one, "label_9_mm3") == 0.0
    assert covariate_of(replace(one, label=None), "label_3_mm3") is None
    told = replace(one, covariates={"label_3_mm3": "11"})
    assert covariate_of(told, "label_3_mm3") == "11"


def test_manifests_from_before_labels_were_measured_load_with_unknown_volumes(tmp_path: Path):
    manifest, _ = index(write_folder(tmp_path / "s", 1), Pseudonyms(b"x"))
    path = tmp_path / "m.json"
    manifest.save(path)
    text = path.read_text()
    start = text.index(',\n   "label_mm3"')
    path.write_text(text[:start] + text[text.index("]", start) + 1 :])
    (one,) = Manifest.load(path).cases
    assert covariate_of(one, "label_1_mm3") is None


# Encoding


def test_a_category_is_one_hot_and_a_number_standardised_with_a_one():
    assert encode(BOTH, {"sex": "M", "age": "65"}).tolist() == [0, 1, 1.5, 1]
    assert encode((AGE, SEX), {"sex": "F", "age": 45.0}).tolist() == [-0.5, 1, 1, 0]
    assert (widths(BOTH), width(BOTH), width(())) == ((2, 2), 4, 0)
    assert encode((), {"age": 3.0}).shape == (0,)


@pytest.mark.parametrize("value", ["", "n/a", "N/A", "nan", "unknown", None])
def test_what_is_unknown_is_all_zeros(value):
    assert encode(BOTH, {"sex": value, "age": value}).tolist() == [0, 0, 0, 0]
    assert encode(BOTH, {"sex": "F", "age": value}).tolist() == [1, 0, 0, 0]
    assert encode(BOTH, {"age": 50.0}).tolist() == [0, 0, 0, 1]


def test_a_category_that_training_never_saw_is_unknown():
    assert encode(BOTH, covariates_of(case(sex="D", age="50"), BOTH)).tolist() == [0, 0, 0, 1]


# Drawing


def test_what_is_fixed_comes_and_the_rest_follows_the_training_scans():
    rng = np.random.default_rng(0)
    drawn = [draw(BOTH, {}, rng) for _ in range(4000)]
    ages = np.array([one["age"] for one in drawn])
    assert abs(np.mean([one["sex"] == "F" for one in drawn]) - 0.75) < 0.03
    for level in (0.1, 0.5, 0.9):
        assert abs(np.mean(ages <= 20 + 60 * level) - level) < 0.03
    fixed = draw(BOTH, {"age": "70", "sex": "M"}, rng)
    assert fixed == {"sex": "M", "age": 70.0}


def test_fixing_one_condition_changes_no_other():
    free, fixed, unknown = (
        draw(BOTH, wanted, np.random.default_rng(3))
        for wanted in ({}, {"sex": "M"}, {"sex": "unknown"})
    )
    assert free["age"] == fixed["age"] == unknown["age"]
    assert (fixed["sex"], unknown["sex"]) == ("M", None)


def test_drawing_gives_back_what_encoding_needs_to_the_last_bit():
    one = draw(BOTH, {}, np.random.default_rng(1))
    again = {name: str(value) for name, value in one.items()}
    assert np.array_equal(encode(BOTH, one), encode(BOTH, again))


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"aeg": 3}, "E_CONDITION aeg: no condition of this model; did you mean age. it has sex"),
        ({"site": "A"}, "E_CONDITION site: no condition of this model; it has sex, age"),
        ({"sex": "D"}, "E_CONDITION sex: no category D; use F, M, unknown"),
        ({"age": "old"}, "E_CONDITION age: 'old' is not a number"),
        ({"age": "inf"}, "E_CONDITION age: 'inf' is not a number"),
    ],
)
def test_what_a_model_cannot_be_asked_for_is_refused_with_what_it_knows(wanted, text):
    with pytest.raises(ConfigError, match=text):
        draw(BOTH, wanted, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="it has none"):
        check((), wanted)


def test_a_number_outside_the_trained_range_is_remarked_and_allowed():
    assert check(BOTH, {"age": 80, "sex": "F"}) == []
    assert check(BOTH, {"age": 95}) == ["age 95 is outside the 20 to 80 trained on"]
    assert draw(BOTH, {"age": 95}, np.random.default_rng(0))["age"] == 95


# Balancing


def test_each_category_lacks_what_the_largest_has_more():
    cases = [case(d=value) for value in ("AD", "CN", "CN", "CN", "MCI", "n/a")] + [case()]
    counts = count_categories(cases, "d")
    assert counts == {"AD": 1, "CN": 3, "MCI": 1}
    assert lacking(counts) == {"AD": 2, "MCI": 2}
    assert lacking({"AD": 2, "CN": 2}) == lacking({}) == {}
