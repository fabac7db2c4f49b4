"""Metrics agree with independent implementations."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import beta, linregress
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from medgan.evaluation.detection.metrics import dice, voxel_average_precision
from medgan.evaluation.interval import proportion
from medgan.evaluation.probes.segmentation import dice_of_scans, hausdorff95
from medgan.evaluation.probes.two_sample import auroc
from medgan.evaluation.sets.diversity import class_score, vendi_score
from medgan.evaluation.sets.fidelity import frechet_distance, rbf_distance
from medgan.evaluation.sets.response import response
from medgan.evaluation.sets.similarity import fitting_scales, ms_ssim
from medgan.networks.blocks import SubPixel
from medgan.networks.metrics import kernel_distance, neighbourhoods, standardised


@pytest.fixture
def sets(generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of two sets of 40 volumes that overlap."""
    real = torch.randn(40, 6, generator=generator)
    return real, 1.2 * torch.randn(40, 6, generator=generator) + 0.3


def test_kernel_distance_is_that_of_torchmetrics_on_standardised_features(sets):
    from torchmetrics.image.kid import poly_mmd

    assert float(kernel_distance(*sets)) == pytest.approx(
        float(poly_mmd(*standardised(*sets))), rel=1e-4
    )


def test_frechet_distance_is_that_of_torchmetrics_and_of_scipy(sets):
    from torchmetrics.image.fid import _compute_fid

    (m1, c1), (m2, c2) = ((x.double().mean(0), torch.cov(x.double().T)) for x in sets)
    found = frechet_distance(*sets)
    assert found == pytest.approx(float(_compute_fid(m1, c1, m2, c2)))
    root = np.real(sqrtm((c1 @ c2).numpy()))
    assert found == pytest.approx(
        float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * np.trace(root)
    )


def test_gaussian_mmd_is_that_of_the_kernel_of_scikit_learn(sets):
    both = torch.cat(sets).double().numpy()
    width = np.median(torch.pdist(torch.cat(sets).double()).square().numpy()) ** 0.5
    kernel = rbf_kernel(both, gamma=1 / (2 * width**2))
    off = kernel - np.diag(np.diag(kernel))
    expected = (off[:40, :40].sum() + off[40:, 40:].sum()) / (40 * 39) - 2 * kernel[:40, 40:].mean()
    assert rbf_distance(*sets) == pytest.approx(expected, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("k", [1, 5])
def test_precision_recall_density_and_coverage_are_those_of_prdc(sets, k):
    from prdc.prdc import compute_prdc

    found = neighbourhoods(*(x.double() for x in sets), k=k)
    assert found._asdict() == pytest.approx(compute_prdc(*(x.double().numpy() for x in sets), k))


def test_vendi_score_is_that_of_the_eigenvalues_of_the_kernel_of_scikit_learn(sets):
    values = np.linalg.eigvalsh(rbf_kernel(sets[0].double().numpy(), gamma=1 / 8) / 40)
    values = values[values > 0]
    assert vendi_score(sets[0], 2.0) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


def test_class_score_is_the_exponential_of_the_mean_divergence_from_the_mean(generator):
    p = torch.randn(50, 4, generator=generator).softmax(1).double()
    divergence = (p * (p.log() - p.mean(0).log())).sum(1)
    assert class_score(p) == pytest.approx(float(divergence.mean().exp()))


def test_ms_ssim_is_that_of_torchmetrics_up_to_the_borders(generator):
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    a = torch.rand(2, 1, 32, 32, 32, generator=generator) * 2 - 1
    for noise in (0.1, 0.5):
        b = (a + noise * torch.randn(a.shape, generator=generator)).clamp(-1, 1)
        expected = multiscale_structural_similarity_index_measure(
            (a + 1) / 2, (b + 1) / 2, kernel_size=7, sigma=1.5, data_range=1.0,
            betas=fitting_scales((32, 32, 32)),
        )  # fmt: skip
        assert float(ms_ssim(a, b).mean()) == pytest.approx(float(expected), abs=0.02)


def test_auroc_is_that_of_scikit_learn_with_ties(generator):
    positive, negative = torch.randint(0, 6, (2, 30), generator=generator).float()
    expected = roc_auc_score([1] * 30 + [0] * 30, torch.cat([positive + 1, negative]))
    assert auroc(positive + 1, negative) == pytest.approx(expected)


def test_voxel_average_precision_is_that_of_torchmetrics(rng):
    from torchmetrics.functional.classification import binary_average_precision

    truth, within = rng.random((2, 8, 8, 8)) > 0.7
    score_map = rng.random((8, 8, 8)) + truth
    expected = binary_average_precision(
        torch.from_numpy(score_map[within]).clamp(0, 2) / 2, torch.from_numpy(truth[within]).long()
    )
    assert voxel_average_precision(score_map, truth, within) == pytest.approx(
        float(expected), abs=1e-5
    )


def test_dice_is_that_of_monai_where_either_side_has_the_label(rng):
    from monai.metrics.meandice import compute_dice

    predicted, truth = (torch.from_numpy(rng.integers(0, 4, (3, 8, 8, 8))) for _ in range(2))
    predicted[0][predicted[0] == 2] = 0
    truth[1][truth[1] == 3] = 0
    planes = [
        torch.nn.functional.one_hot(part, 4).movedim(-1, 1).float() for part in (predicted, truth)
    ]
    expected = compute_dice(*planes, include_background=False, ignore_empty=False)
    assert torch.allclose(dice_of_scans(predicted, truth, 3).float(), expected)
    one = dice((predicted[2] == 1).numpy(), (truth[2] == 1).numpy())
    assert one == pytest.approx(float(expected[2, 0]))


def test_hausdorff_distance_is_that_of_distances_between_surfaces(rng):
    from scipy.ndimage import binary_erosion, distance_transform_edt

    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    a = ((grid - 7) ** 2).sum(0) < 20
    b = ((grid - np.array([8, 6, 9])[:, None, None, None]) ** 2).sum(0) < 30
    spacing, distances = (1.0, 1.5, 2.0), []
    surfaces = [mask & ~binary_erosion(mask) for mask in (a, b)]
    for here, there in (surfaces, surfaces[::-1]):
        apart = distance_transform_edt(~there, sampling=spacing)
        distances.append(np.percentile(apart[here], 95))
    masks = (torch.from_numpy(mask)[None].long() for mask in (a, b))
    assert float(hausdorff95(*masks, 1, spacing)) == pytest.approx(max(distances), rel=1e-5)


def test_the_interval_of_a_share_is_that_of_the_beta_distribution():
    found = proportion(3, 40)
    assert found.low == pytest.approx(beta.ppf(0.025, 3, 38))
    assert found.high == pytest.approx(beta.ppf(0.975, 4, 37))


def test_slope_and_correlation_are_those_of_scipy(rng):
    x = rng.uniform(20, 80, 50)
    y = 0.02 * x + rng.normal(0, 0.3, 50)
    expected = linregress(x, y)
    condition, measured = torch.from_numpy(x), torch.from_numpy(y)
    found = response(condition, measured, condition, measured)
    assert found.slope == pytest.approx(expected.slope)
    assert found.correlation == pytest.approx(expected.rvalue)


def test_sub_pixel_convolution_is_the_pixel_shuffle_of_monai(generator):
    from monai.networks.utils import pixelshuffle

    layer = SubPixel(4, 3)
    torch.nn.init.normal_(layer.mix.weight, generator=generator)
    x = torch.randn(2, 4, 4, 5, 6, generator=generator)
    assert torch.equal(layer(x), pixelshuffle(layer.mix(x), 3, 2))
