"""Scores given age and sex: calibration, scoring, files."""

import json
from dataclasses import fields

import numpy as np
import pytest

import medgan
from medgan.anomaly.calibration import Calibration, ScoringConfig
from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.model.calibration_files import calibration_from_files, calibration_to_files
from medgan.model.model import Model
from tests.kit.models import make_model
from tests.kit.volumes import AFFINE, SIZE, scans

KINDS = {"age": "continuous", "sex": "categorical"}
AGES = np.linspace(20, 75, 24).round()
KNOWN = [{"age": str(age), "sex": "FM"[n % 2]} for n, age in enumerate(AGES)]


def aged(ages, seed: int = 0) -> list[Volume]:
    """Balls whose texture grows with age."""
    inside = np.linalg.norm(np.indices(SIZE) - 7.5, axis=0) < 5
    rng = np.random.default_rng(seed + 50)
    return [
        Volume((scan.data + inside * rng.normal(0, age, SIZE)).astype(np.float32), AFFINE)
        for scan, age in zip(scans(len(ages), seed), ages, strict=True)
    ]


@pytest.fixture(scope="module")
def adjusted() -> Model:
    model = make_model()
    config = ScoringConfig(("residual",), 1.0, KINDS)
    model.calibrate(aged(AGES), config, covariates=KNOWN)
    return model


def test_a_scan_is_compared_with_healthy_scans_of_its_age(adjusted):
    (old,) = aged([75.0], seed=5)
    plain = make_model()
    plain.calibrate(aged(AGES), ScoringConfig(("residual",), 1.0))
    unadjusted = plain.score(old).score
    calibration = adjusted.calibration
    assert calibration is not None
    assert calibration.adjustment is not None
    assert abs(calibration.adjustment.coefficients[0]) > 0.03  # a year
    for covariates in ({"age": "75", "sex": "M"}, {"age": 75}, {}):
        result = adjusted.score(old, covariates=covariates)
        expected = calibration.adjustment(unadjusted, covariates)
        assert result.score == pytest.approx(expected, abs=1e-4)
        assert result.p_value == calibration.p_value(result.score)
    given, unknown = (adjusted.score(old, covariates=c).score for c in ({"age": 75}, {}))
    assert given != pytest.approx(unknown, abs=0.05)


def test_the_explanation_names_what_was_adjusted_for_and_what_lies_outside(adjusted):
    (scan,) = aged([50.0], seed=6)
    usual = adjusted.score(scan, covariates={"age": 50, "sex": "F"})
    assert usual.adjusted == ("age", "sex")
    assert usual.remarks == ()
    assert f"; adjusted for age and sex, the score is {usual.score:z.1f}." in usual.explanation
    old = adjusted.score(scan, covariates={"age": 90})
    assert old.explanation.endswith(
        "; its age 90 lies outside the 20 to 75 of the healthy scans"
        "; its sex is unknown and not adjusted for."
    )
    with pytest.raises(ConfigError, match="is not a number"):
        adjusted.score(scan, covariates={"age": "old"})


def test_an_adjusted_calibration_is_saved_without_any_row_and_comes_back(adjusted, tmp_path):
    adjusted.save(tmp_path)
    (scan,) = aged([40.0], seed=7)
    of = {"age": 40, "sex": "F"}
    before, after = (m.score(scan, covariates=of) for m in (adjusted, medgan.load(tmp_path)))
    assert before.score == after.score
    assert before.p_value == after.p_value
    assert before.explanation == after.explanation
    assert "- Scores adjusted for: age, sex" in (tmp_path / "card.md").read_text()
    values = json.loads((tmp_path / "calibration.json").read_text())["adjustment"]
    assert set(values) == {"covariates", "coefficients", "products", "scans", "variance"}
    assert np.shape(values["coefficients"]) == (2,)
    assert np.shape(values["products"]) == (2, 2)
    age, _ = values["covariates"]
    assert (age["low"], age["high"], age["centres"]) == (20.0, 75.0, [float(AGES.mean())])


def test_a_calibration_without_covariates_is_scored_as_before(tmp_path):
    model = make_model()
    model.calibrate(aged(AGES), ScoringConfig(("residual",)))
    model.save(tmp_path)
    path = tmp_path / "calibration.json"
    values = json.loads(path.read_text())
    assert "adjustment" not in values
    del values["scoring_config"]["covariates"]  # as older files are
    (scan,) = aged([40.0], seed=8)
    before = model.score(scan, covariates={"age": 40})
    assert before.score == model.score(scan).score
    assert "adjusted" not in before.explanation
    assert model.calibration is not None
    _, maps = calibration_to_files(model.calibration)
    model.calibration = calibration_from_files(values, maps)
    assert model.score(scan).score == pytest.approx(before.score, abs=1e-6)


def test_calibration_on_another_site_sets_everything_anew():
    model = make_model()
    config = ScoringConfig(("residual",), 1.0, {"age": "continuous"})
    model.calibrate(aged(AGES), config, covariates=KNOWN)
    first = model.calibration
    rng = np.random.default_rng(3)
    other = [
        scan.like(scan.data + rng.normal(0, 8, SIZE).astype(np.float32))
        for scan in aged(AGES, seed=1)
    ]
    model.calibrate(other, config, covariates=KNOWN)
    second = model.calibration
    assert first is not None
    assert second is not None
    for name in (field.name for field in fields(Calibration)):
        if name not in ("scoring_config", "statistics", "reference", "adjustment"):
            assert getattr(first, name) != getattr(second, name), name
    for one, two in zip(first.statistics.values(), second.statistics.values(), strict=True):
        assert not np.allclose(one.mean, two.mean)
        assert not np.allclose(one.spread, two.spread)
    a, b = first.reference, second.reference
    assert a is not None
    assert b is not None
    for name in ("quantiles", "mean", "latent"):
        assert not np.allclose(getattr(a, name), getattr(b, name)), name
    assert a.limits != b.limits
    assert first.adjustment is not None
    assert second.adjustment is not None
    assert not np.allclose(first.adjustment.coefficients, second.adjustment.coefficients)
