import numpy as np
import pytest
from scipy import ndimage

from medgan.scoring.comparability import QUANTILES, limit, measure, quantiles, typical


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


@pytest.fixture(scope="module")
def known():
    return typical([scan(seed) for seed in range(40)])


def reasons(known, volume):
    return known.reasons(measure(known, volume))


def test_nearly_all_healthy_scans_that_were_never_seen_are_comparable(known):
    assert sum(bool(reasons(known, scan(seed))) for seed in range(100, 200)) <= 3


def test_a_head_on_its_side_or_mirrored_has_its_anatomy_elsewhere(known):
    assert reasons(known, np.rot90(scan(100), 1, (0, 2)).copy()) == ["anatomy"]
    assert reasons(known, scan(100)[::-1].copy()) == ["anatomy"]


def test_a_wrong_window_has_other_intensities(known):
    assert "intensities" in reasons(known, (3 * scan(100) + 1.5).clip(-1, 1))
    assert "intensities" in reasons(known, -scan(100))


def test_an_empty_scan_is_not_comparable(known):
    assert reasons(known, np.full((20, 24, 20), -1, np.float32))


def test_other_measures_count_too():
    volumes = [scan(seed) for seed in range(8)]
    known = typical(volumes, {"latent": [1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 0.8, 1.1]})
    measures = measure(known, scan(100))
    assert known.reasons({**measures, "latent": 1.25}) == []
    assert known.reasons({**measures, "latent": 9.0}) == ["latent"]


def test_a_limit_lies_beyond_the_strangest_by_most_of_its_distance_from_the_median():
    assert limit([1.0, 2.0, 3.0, 4.0, 7.0]) == 10.0
    assert limit([2.0, 2.0]) == 2.0


def test_quantiles_run_from_the_darkest_to_the_brightest():
    values = quantiles(scan(0))
    assert len(values) == QUANTILES
    assert values[0] == scan(0).min()
    assert values[-1] == scan(0).max()
    assert (np.diff(values) >= 0).all()
