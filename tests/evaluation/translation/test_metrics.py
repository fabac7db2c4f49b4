"""Metrics of translated images by closed forms."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medgan.evaluation.translation.metrics import (
    TranslationMetrics,
    mean_absolute_error,
    mean_error,
    psnr,
    ssim,
)
from medgan.evaluation.translation.summary import difference_of, mean_of, row

HU = (-1000.0, 1000.0)
ALL = np.ones((12, 13, 14), bool)
RNG = np.random.default_rng(0)
REAL = RNG.normal(0, 100, ALL.shape).astype(np.float32)


def test_errors_of_a_constant_shift_are_the_shift_and_its_sign_is_kept() -> None:
    assert mean_absolute_error(REAL - 20, REAL, ALL) == pytest.approx(20, rel=1e-5)
    assert mean_error(REAL - 20, REAL, ALL) == pytest.approx(-20, rel=1e-5)


def test_psnr_of_a_constant_shift_is_that_of_the_range_over_the_shift() -> None:
    assert psnr(REAL + 20, REAL, ALL, 2000.0) == pytest.approx(20 * math.log10(2000 / 20), rel=1e-5)
    assert psnr(REAL, REAL, ALL, 2000.0) == math.inf


def test_over_all_voxels_psnr_and_ssim_are_those_of_scikit_image() -> None:
    noisy = REAL + RNG.normal(0, 30, REAL.shape).astype(np.float32)
    assert psnr(noisy, REAL, ALL, 2000.0) == pytest.approx(
        peak_signal_noise_ratio(REAL, noisy, data_range=2000), rel=1e-5
    )
    _, full = structural_similarity(REAL, noisy, data_range=2000.0, full=True)
    assert ssim(noisy, REAL, ALL, HU) == pytest.approx(full.mean(), rel=1e-4)


def test_ssim_is_one_for_the_same_image_and_falls_with_noise() -> None:
    noise = RNG.normal(0, 1, REAL.shape).astype(np.float32)
    values = [ssim(REAL + size * noise, REAL, ALL, HU) for size in (0.0, 20.0, 100.0)]
    assert values[0] == pytest.approx(1)
    assert values[0] > values[1] > values[2]


def test_what_lies_outside_of_the_region_does_not_matter() -> None:
    region = ALL.copy()
    region[6:] = False
    other, target = REAL + 20, REAL.copy()
    before = TranslationMetrics.of(other, target, region, None, HU)
    other[6:], target[6:] = 9999, np.nan
    assert TranslationMetrics.of(other, target, region, None, HU) == pytest.approx(
        before, nan_ok=True
    )


def test_the_tumour_counts_apart_where_the_region_holds_it() -> None:
    region, tumour = ALL.copy(), np.zeros_like(ALL)
    region[0] = False
    tumour[:3] = True
    found = TranslationMetrics.of(np.where(tumour, REAL - 7, REAL + 3), REAL, region, tumour, HU)
    assert found.mae_tumour == pytest.approx(7, rel=1e-4)
    assert found.mae_outside == pytest.approx(3, rel=1e-4)
    assert found.mae == pytest.approx((2 * 7 + 9 * 3) / 11, rel=1e-4)
    assert found.bias_tumour == pytest.approx(-7, rel=1e-4)


def test_without_a_tumour_its_metrics_are_not_a_number() -> None:
    found = TranslationMetrics.of(REAL, REAL, ALL, None, HU)
    assert math.isnan(found.mae_tumour)
    assert math.isnan(found.bias_tumour)
    assert found.mae == found.mae_outside == 0


def results(*errors: float) -> list[TranslationMetrics]:
    return [TranslationMetrics(e, math.nan, e, math.nan, 30.0, 0.9) for e in errors]


def test_patients_differ_and_a_method_that_is_better_in_each_of_them_is_better_for_sure() -> None:
    ours = results(10, 20, 30, 40, 50)
    other = results(12, 22.5, 31.5, 42, 52)
    mean = mean_of(ours, "mae")
    assert mean.value == 30
    assert mean.low < 24
    assert mean.high > 36
    found, p_value = difference_of(ours, other, "mae")
    assert found.value == pytest.approx(-2)
    assert found.low < -2 < found.high < -1.5
    assert p_value < 0.001


def test_a_row_leaves_out_what_no_patient_has() -> None:
    found = row("other", results(3, 5), results(1, 2))
    assert set(found["metrics"]) == {"mae", "mae_outside", "psnr", "ssim"}
    assert found["ours_minus"]["mae"]["value"] == -2.5
    assert "ours_minus" not in row("ours", results(1, 2))
