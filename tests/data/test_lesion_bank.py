import numpy as np
import pytest
from scipy import ndimage

from medgan.core.errors import DataError
from medgan.data.lesion_bank import LabelledScan, LesionBank, surround_of

SPACING = (1.0, 1.0, 2.0)


def distance(shape, centre):
    steps = np.indices(shape) - np.array(centre)[:, None, None, None]
    return np.linalg.norm(steps * np.array(SPACING)[:, None, None, None], axis=0)


def patient(level: float, lesion: float, noise: float = 0.0, smooth: float = 0.0) -> LabelledScan:
    """A ball of 6 mm in even tissue, its values falling to those of the tissue over 2 mm."""
    away = distance((32, 32, 16), (16, 16, 8))
    share = ((8 - away) / 2).clip(0, 1)
    drawn = np.random.default_rng(0).standard_normal(away.shape)
    if smooth:
        drawn = ndimage.gaussian_filter(drawn, smooth)
    volume = level + share * (lesion - level) + noise * drawn / drawn.std() * (away <= 6)
    return LabelledScan(volume.astype(np.float32), away <= 6, SPACING, "c-1")


def test_each_connected_lesion_is_an_example_of_its_volume_and_surround():
    scan = patient(-0.5, 0.4)
    mask = scan.mask | (distance(scan.mask.shape, (27, 27, 3)) <= 3)
    bank = LesionBank.learn([scan._replace(mask=mask)])
    assert len(bank.examples) == 2
    sizes = sorted(one.mm3 for one in bank.examples)
    assert sizes[1] == pytest.approx(scan.mask.sum() * 2)
    assert all(one.surround == pytest.approx(-0.5) for one in bank.examples)
    assert bank.examples[0].source == "c-1"


def test_the_profile_is_that_of_the_lesion_and_its_edge():
    (example,) = LesionBank.learn([patient(-0.5, 0.4)]).examples
    within, beyond = example.profile
    assert within == pytest.approx(np.full(6, 0.4), abs=0.02)
    assert beyond[-1] == pytest.approx(-0.5, abs=0.05)
    assert (np.diff(beyond) <= 0.01).all()


def test_the_texture_has_the_spread_and_smoothness_of_the_noise():
    (example,) = LesionBank.learn([patient(-0.5, 0.2, 0.1, (0.6, 0.6, 0.3))]).examples
    spread, found = example.texture
    assert spread == pytest.approx(0.1, rel=0.25)
    assert found == pytest.approx(0.6, rel=0.3)


def test_a_slope_across_a_lesion_is_no_texture():
    scan = patient(-0.5, 0.2)
    slope = np.linspace(-0.5, 0.5, scan.volume.shape[0])[:, None, None].astype(np.float32)
    (example,) = LesionBank.learn([scan._replace(volume=scan.volume + slope)]).examples
    inside = example.values[example.mask]
    assert inside.std() > 0.08
    assert example.texture[0] < 0.03


def test_another_mask_gets_profile_and_texture():
    rng = np.random.default_rng(0)
    (example,) = LesionBank.learn([patient(-0.5, 0.4, 0.05)]).examples
    mask = distance((40, 40, 20), (20, 20, 10)) <= 11
    drawn = example.inside(mask, SPACING, rng)
    assert drawn[mask].mean() == pytest.approx(0.4, abs=0.03)
    assert drawn[mask].std() == pytest.approx(0.05, rel=0.4)
    assert drawn[distance(mask.shape, (20, 20, 10)) > 15] == pytest.approx(-0.5, abs=0.06)


def test_a_lesion_keeps_its_size_in_mm_at_another_spacing():
    (example,) = LesionBank.learn([patient(-0.5, 0.4)]).examples
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(40):
        _, mask = example.varied((0.5, 1.0, 1.0), rng)
        sizes.append(mask.sum() * 0.5 / example.mm3)
    assert 0.8**3 * 0.9 < min(sizes) < 0.8
    assert 1.3 < max(sizes) < 1.25**3 * 1.1


def test_the_surround_leaves_out_air_and_the_rim():
    scan = patient(0.2, 0.9)
    volume = scan.volume.copy()
    volume[:8] = -1
    assert surround_of(volume, scan.mask, SPACING, 3.0) == pytest.approx(0.2, abs=1e-6)


def test_scans_without_a_lesion_of_ten_voxels_are_refused():
    scan = patient(0.2, 0.9)
    with pytest.raises(DataError, match="E_LESION"):
        LesionBank.learn([scan._replace(mask=np.zeros(scan.mask.shape, bool))])
