import numpy as np
import pytest

from medgan.anomaly.adjustment import fit_adjustment
from medgan.anomaly.calibration import conformal_p_value
from medgan.core.errors import ConfigError

KINDS = {"age": "continuous", "sex": "categorical"}
RATES = np.array([0.05, 0.10])
FRESH = 10
ALL, YOUNG, OLD = (20, 75), (20, 45), (60, 80)


def draw(rng, count, ages, slope):
    """Healthy scores that rise with age and differ between the sexes, and the covariates."""
    age, sex = rng.uniform(*ages, count), rng.integers(0, 2, count)
    scores = slope * (age - 45) / 15 + 0.5 * sex + rng.standard_normal(count)
    return scores, [{"age": a, "sex": "FM"[s]} for a, s in zip(age, sex, strict=True)]


def cohort(rng, count, ages=ALL, slope=1.0):
    """Calibration scans with mean score 0, as `calibrate` gives them."""
    scores, rows = draw(rng, count, ages, slope)
    return (scores - scores.mean()).tolist(), rows


def false_alarms(count, calibrated, tested, slope, known=True, in_sample=False, repeats=250):
    """Rates among fresh scans, unadjusted and adjusted, (2, R), and the noise of these."""
    rng, shares = np.random.default_rng(count), np.zeros((repeats, 2, len(RATES)))
    for one in range(repeats):
        scores, rows = draw(rng, count, calibrated, slope)
        fresh, covariates = draw(rng, FRESH, tested, slope)
        fresh, scores = fresh - scores.mean(), (scores - scores.mean()).tolist()
        found, own = fit_adjustment(scores, rows, KINDS)
        assert found is not None
        if not known:
            covariates = [{}] * FRESH
        adjusted = [found(s, c) for s, c in zip(fresh, covariates, strict=True)]
        if in_sample:
            own, adjusted = (
                [s - _mean(found, c) for s, c in zip(part, of, strict=True)]
                for part, of in ((scores, rows), (fresh, covariates))
            )
        for n, (values, healthy) in enumerate(((fresh, scores), (adjusted, own))):
            p = np.array([conformal_p_value(float(v), healthy) for v in values])
            shares[one, n] = (p[:, None] <= RATES).mean(axis=0)
    return shares.mean(axis=0), 3 * shares.std(axis=0) / repeats**0.5


def _mean(found, covariates):
    """Of healthy scans with these covariates, by the regression."""
    row = [x for one in found.covariates for x in one.columns(covariates[one.name])]
    return float(np.array(row) @ found.coefficients)


@pytest.mark.parametrize("count", [20, 30])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_false_alarms_stay_at_the_asked_rate_with_two_covariates(count, slope):
    rates, noise = false_alarms(count, ALL, ALL, slope)
    assert (noise < 0.03).all()
    assert (rates[1] <= RATES + noise[1]).all()
    possible = np.floor(RATES * (count + 1) + 1e-9) / (count + 1)
    assert (rates[1] >= 0.7 * possible - noise[1]).all()


@pytest.mark.parametrize("count", [20, 30])
def test_old_patients_of_a_site_that_calibrated_on_the_young_raise_no_more_alarms(count):
    rates, noise = false_alarms(count, YOUNG, OLD, 0.7)
    assert (rates[0] > 0.3).all()
    assert (rates[1] <= RATES + noise[1]).all()
    assert (rates[1] >= 0.5 * RATES - noise[1]).all()


@pytest.mark.parametrize("count", [20, 30])
def test_scans_of_unknown_age_and_sex_raise_no_more_alarms(count):
    rates, noise = false_alarms(count, ALL, ALL, 1.0, known=False)
    assert (rates[1] <= RATES + noise[1]).all()


def test_residuals_that_are_not_divided_by_their_deviation_would_alarm_too_often():
    rates, noise = false_alarms(20, YOUNG, OLD, 0.7, in_sample=True)
    assert (rates[1] > RATES + noise[1]).all()


def test_a_score_is_the_distance_from_healthy_scans_of_that_age():
    """Without noise every healthy scan lies on the regression, however old."""
    ages = np.linspace(20, 75, 20)
    scores = (ages - ages.mean()) / 10
    found, own = fit_adjustment(scores.tolist(), [{"age": a} for a in ages], {"age": "continuous"})
    assert np.allclose(own, 0, atol=1e-9)
    assert found(float((60 - ages.mean()) / 10), {"age": "60"}) == pytest.approx(0, abs=1e-9)
    near, far = (found((a - ages.mean()) / 10 + 1, {"age": a}) for a in (48, 90))
    assert 0 < far < near < 1


def test_own_scores_are_those_of_regressions_that_leave_the_scan_out(rng):
    """The leave-one-out residual over its standard deviation, computed one by one."""
    scores, rows = cohort(rng, 24)
    _, own = fit_adjustment(scores, rows, KINDS)
    columns = np.array([[1.0, row["age"], row["sex"] == "M"] for row in rows])
    for one in range(24):
        others = np.delete(columns, one, axis=0)
        inverse = np.linalg.inv(others.T @ others)
        expected = columns[one] @ inverse @ others.T @ np.delete(scores, one)
        spread = 1 + columns[one] @ inverse @ columns[one]
        assert own[one] == pytest.approx((scores[one] - expected) / spread**0.5, abs=1e-6)


def test_covariates_that_the_scans_cannot_carry_are_left_out_and_said(rng, caplog):
    scores, rows = cohort(rng, 19)
    found, _ = fit_adjustment(scores, rows, KINDS)
    assert [one.name for one in found.covariates] == ["age"]
    assert "not adjusted for sex: 19 healthy scans have it, 20 are needed" in caplog.text
    scores, rows = cohort(rng, 9)
    found, own = fit_adjustment(scores, rows, KINDS)
    assert found is None
    assert own == scores
    assert "not adjusted for age: 9 healthy scans have it, 10 are needed" in caplog.text


def test_a_covariate_without_variation_and_rare_categories_are_left_out(rng, caplog):
    scores, rows = cohort(rng, 24)
    same = [row | {"age": 50} for row in rows]
    rare = [row | {"sex": "F" if n else "M"} for n, row in enumerate(rows)]
    (found, _), (alone, _) = (fit_adjustment(scores, r, KINDS) for r in (same, rare))
    assert [one.name for one in found.covariates] == ["sex"]
    assert [one.name for one in alone.covariates] == ["age"]
    assert "not adjusted for age: it hardly varies" in caplog.text
    assert "not adjusted for sex: it hardly varies" in caplog.text


def test_what_is_unknown_or_outside_is_said_in_plain_words(rng):
    scores, rows = cohort(rng, 24, ages=(20, 60))
    found, _ = fit_adjustment(scores, rows, KINDS)
    assert found.remarks({"age": 40, "sex": "F"}) == []
    outside, unseen = found.remarks({"age": 80, "sex": "X"})
    low, high = (f([row["age"] for row in rows]) for f in (min, max))
    assert outside == f"its age 80 lies outside the {low:g} to {high:g} of the healthy scans"
    assert unseen == "no healthy scan has its sex X, not adjusted for"
    assert found.remarks({"age": "n/a"}) == [
        "its age is unknown and not adjusted for", "its sex is unknown and not adjusted for",
    ]  # fmt: skip


def test_calibration_scans_of_unknown_age_count_with_the_mean(rng):
    scores, rows = cohort(rng, 30)
    rows[3] = {"age": "n/a", "sex": rows[3]["sex"]}
    found, own = fit_adjustment(scores, rows, KINDS)
    assert found.scans == len(own) == 30
    assert np.isfinite(own).all()
    assert found.coefficients[0] == pytest.approx(1 / 15, abs=0.04)


def test_a_covariate_that_no_scan_has_and_text_for_a_number_are_refused(rng):
    scores, rows = cohort(rng, 20)
    with pytest.raises(ConfigError, match="there are: age, sex") as caught:
        fit_adjustment(scores, rows, {"weight": "continuous"})
    assert caught.value.code == "E_CONDITION"
    rows[0]["age"] = "80+"
    with pytest.raises(ConfigError, match="is not a number"):
        fit_adjustment(scores, rows, KINDS)
