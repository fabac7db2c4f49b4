"""A template is bent to the anatomy of a scan, and not to its lesions."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.anomaly.context import ScoringContext, ScoringNetworks
from medgan.anomaly.healthy import BentTemplate, healthy_of
from medgan.anomaly.scorers import SCORERS, available
from medgan.core.config import Preprocessing
from medgan.core.template import PERCENTILES, Template
from medgan.data.deformation import bent, deformation
from medgan.data.template import _bent_to_their_mean

SHAPE = (48, 48, 48)


def brain(ventricle: float, shift: float = 0.0) -> np.ndarray:
    """Tissue about a dark ventricle, in [-1, 1], with soft edges."""
    x, y, z = (np.indices(SHAPE) - np.reshape(SHAPE, (3, 1, 1, 1)) / 2) / 20
    outside = np.sqrt((x * 1.2) ** 2 + (y - shift) ** 2 + (z * 1.2) ** 2)
    inside = np.sqrt(x**2 + ((y - shift) / 1.5) ** 2 + z**2)
    tissue = np.where(outside < 1, np.where(inside < ventricle, -0.6, 0.5), -1.0)
    return ndimage.gaussian_filter(tissue, 0.8).astype(np.float32)


@cache
def template() -> Template:
    mean = brain(0.3)[None]
    marks = np.percentile(mean[mean > -0.7], PERCENTILES).astype(np.float32)
    return Template(mean, np.full_like(mean, 0.1), marks[None], 0.98)


def lesioned(scan: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A dark lesion of two voxels' radius in tissue, and where it is."""
    centre = np.array([24, 38, 24]).reshape(3, 1, 1, 1)
    where = ((np.indices(SHAPE) - centre) ** 2).sum(axis=0) <= 4
    return np.where(where, scan - 0.6, scan).astype(np.float32), where


def test_the_template_takes_the_shape_of_the_scan() -> None:
    scan, mean = brain(0.42, shift=0.05), template().mean
    found = bent(mean, deformation(scan, mean[0]))[0]
    assert np.abs(found - scan).mean() < 0.7 * np.abs(mean[0] - scan).mean()
    assert found.dtype == np.float32


def test_a_volume_that_fits_stays_and_all_channels_are_bent_alike() -> None:
    mean = template().mean[0]
    np.testing.assert_allclose(bent(mean[None], deformation(mean, mean))[0], mean, atol=1e-5)
    one, two = bent(np.stack([mean, -mean]), deformation(brain(0.4), mean))
    inside = np.s_[2:-2, 2:-2, 2:-2]
    np.testing.assert_allclose(one[inside], -two[inside], atol=1e-5)


def test_beyond_the_grid_a_bent_volume_is_as_at_its_edge() -> None:
    """Else air would turn into tissue, and a spread into 0, which nothing can be divided by."""
    both = np.stack([brain(0.3, shift=0.4), np.full(SHAPE, 0.1, np.float32)])
    _, spread = bent(both, deformation(brain(0.3), both[0]))
    np.testing.assert_allclose(spread, 0.1, atol=1e-5)


@pytest.mark.slow
def test_scans_bent_to_their_mean_differ_less() -> None:
    channel = np.stack([brain(size) for size in (0.26, 0.34, 0.42)])
    one, two = _bent_to_their_mean([channel, -channel])
    assert one.std(axis=0).mean() < 0.7 * channel.std(axis=0).mean()
    np.testing.assert_allclose(one, -two, atol=1e-4)


def test_a_small_lesion_keeps_its_contrast() -> None:
    scan = brain(0.42)
    sick, where = lesioned(scan)
    networks = ScoringNetworks(None, None, None, {}, healthy=BentTemplate(template()))
    assert {"darker", "brighter"} <= set(available(networks))
    volumes = torch.from_numpy(np.stack([scan, sick]))[:, None]
    healthy, found = ScoringContext(volumes, networks).deviation[:, 0].numpy()
    assert (healthy - found)[where].mean() > 0.8 * 0.6 / 0.1
    dark = SCORERS["darker"](ScoringContext(volumes[1:], networks))[0, 0].numpy()
    assert dark[where].mean() > np.quantile(dark, 0.99)


def test_without_generator_and_restorer_the_counterpart_is_the_bent_template() -> None:
    scan = torch.from_numpy(brain(0.42))[None, None]
    networks = ScoringNetworks(None, None, None, {}, healthy=BentTemplate(template()))
    found = ScoringContext(scan, networks).counterpart
    assert found.shape == scan.shape
    assert (found - scan).abs().mean() < (torch.from_numpy(template().mean) - scan).abs().mean()


@pytest.mark.parametrize("align", ["none", "affine", "deformable"])
def test_only_models_with_deformable_alignment_bend_their_template(align: str) -> None:
    grid = Preprocessing(
        spacing=(2, 2, 2), shape=SHAPE, align=align,
        template=None if align == "none" else template(),
    )  # fmt: skip
    found = healthy_of(grid, torch.device("cpu"))
    assert isinstance(found, BentTemplate) == (align == "deformable")
    assert (found is None) == (align == "none")
