from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medgan.anomaly.comparability import QUANTILES, ScanStatistics, limit, reference_statistics


def scan(seed: int) -> np.ndarray:
    """A head of its own size and texture, with two dark chambers on its right."""
    rng = np.random.default_rng(seed)
    shape = (20, 24, 20)
    grid = np.indices(shape) - np.array([10, 12, 10])[:, None, None, None]
    radii = np.array([8, 10, 8])[:, None, None, None] * (1 + 0.02 * rng.standard_normal())
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1)
    volume = 0.3 + 0.2 * texture / texture.std()
    volume[np.linalg.norm((grid - np.array([4, 4, 2])[:, None, None, None]) / 5, axis=0) < 1] = -0.6
    volume[np.linalg.norm(grid / radii, axis=0) > 1] = -1
    return volume.clip(-1, 1).astype(np.float32)


def statistics(volume, seed=0, **changes):
    rng = np.random.default_rng([seed, 1])
    usual = ScanStatistics(
        volume, 60 + rng.normal(size=3), rng.normal(size=16), 0.1 + 0.01 * rng.random()
    )
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def known():
    return reference_statistics([statistics(scan(seed), seed) for seed in range(40)])


def reasons(known, volume, seed=100):
    return list(known.reasons(statistics(volume, seed)))


def test_nearly_all_healthy_scans_that_were_never_seen_are_comparable(known):
    assert sum(bool(reasons(known, scan(seed), seed)) for seed in range(100, 200)) <= 5


def test_a_head_on_its_side_or_mirrored_has_its_anatomy_elsewhere(known):
    assert reasons(known, np.rot90(scan(100), 1, (0, 2)).copy()) == ["anatomy"]
    assert reasons(known, scan(100)[::-1].copy()) == ["anatomy"]


def test_a_wrong_window_has_other_intensities(known):
    assert "intensities" in reasons(known, (3 * scan(100) + 1.5).clip(-1, 1))
    assert "intensities" in reasons(known, -scan(100))


def test_an_empty_scan_is_not_comparable(known):
    assert reasons(known, np.full((20, 24, 20), -1, np.float32))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"field_of_view": np.array([60.0, 60.0, 130.0])}, "field_of_view"),
        ({"latent": np.full(16, 4.0)}, "latent"),
        ({"error": 0.3}, "reconstruction"),
    ],
)
def test_what_the_scanner_and_the_model_say_of_it_counts_too(known, change, reason):
    assert known.reasons(statistics(scan(100), 100, **change)) == (reason,)


@pytest.mark.parametrize(
    ("change", "found"),
    [({"unseen": 0.3}, ()), ({"unseen": 0.6}, ("coverage",)), ({"agreement": 0.8}, ("alignment",))],
)
def test_an_aligned_scan_may_end_anywhere_but_must_show_half_of_the_anatomy(change, found):
    aligned = {"agreement": 0.98, "field_of_view": np.full(3, 60.0)}
    known = reference_statistics([statistics(scan(n), n, **aligned) for n in range(20)])
    short = aligned | {"field_of_view": np.array([60.0, 60.0, 20.0])} | change
    assert known.reasons(statistics(scan(100), 5, **short)) == found


def test_a_limit_lies_beyond_the_strangest_by_most_of_its_distance_from_the_median():
    assert limit([1.0, 2.0, 3.0, 4.0, 7.0], 0.75) == 10.0
    assert limit([2.0, 2.0], 0.75) == 2.0
    assert limit([2.0, 2.0], 0.75, least=0.5) == 2.5


def test_quantiles_run_from_the_darkest_to_the_brightest():
    values = statistics(scan(0)).quantiles
    assert len(values) == QUANTILES
    assert values[0] == scan(0).min()
    assert values[-1] == scan(0).max()
    assert (np.diff(values) >= 0).all()


def test_a_scan_squeezed_by_something_very_bright_is_stretched_back_and_a_healthy_one_left(known):
    for seed in range(100, 120):
        assert known.rescaling(scan(seed)) is None
    lesioned = scan(100)
    lesioned[12:16, 14:19, 6:10] = 1.0
    squeezed = (lesioned + 1) / 2 - 1
    squeezed[12:16, 14:19, 6:10] = 1.0
    change = known.rescaling(squeezed)
    assert change is not None
    assert change[0] == pytest.approx(2, abs=0.3)
    again = (squeezed * change[0] + change[1]).clip(-1, 1).astype(np.float32)
    assert np.abs(again - lesioned).mean() < 0.25 * np.abs(squeezed - lesioned).mean()
    assert "intensities" in reasons(known, squeezed)
    assert reasons(known, again) == []


def test_stretching_does_not_make_another_kind_of_scan_comparable(known):
    for volume in (-scan(100), np.full((20, 24, 20), -1, np.float32), scan(100)[::-1].copy()):
        change = known.rescaling(volume)
        gain, offset = change or (1.0, 0.0)
        assert reasons(known, (volume * gain + offset).clip(-1, 1).astype(np.float32))
