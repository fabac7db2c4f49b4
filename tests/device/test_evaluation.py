"""Networks that judge scans, features of sets, and methods to compare with, on another device."""

import numpy as np
import pytest
import torch

from medgan.anomaly.simple import SIMPLE
from medgan.evaluation.privacy.copies import similarity
from medgan.evaluation.probes.augmentation import classical
from medgan.evaluation.probes.classification import classify, train_classifier
from medgan.evaluation.probes.plausibility import dice_by_volume, foreground_volumes, label_volumes
from medgan.evaluation.probes.segmentation import hausdorff95, segment, train_segmenter
from medgan.evaluation.probes.two_sample import real_floor
from medgan.evaluation.sets.encoders import random_ensemble, train_encoder
from medgan.evaluation.sets.similarity import mean_similarity
from medgan.networks.blocks import Stages
from medgan.networks.encoder import Encoder
from medgan.networks.gan import Networks
from medgan.networks.metrics import band_features, kernel_distance, neighbourhoods
from medgan.studies.baselines.alpha_wgan import AlphaWgan
from medgan.studies.baselines.dcgan import Dcgan
from medgan.studies.baselines.detectors import Denoiser, PostHocEncoder, Untrained
from medgan.studies.baselines.training import train_baseline
from medgan.studies.baselines.vae import Vae

pytestmark = pytest.mark.long

SHAPE = (16, 16, 16)
VOLUMES = torch.rand(8, 1, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
CLASSES = (VOLUMES[:, 0] > 0.5).long()
GROUPS = torch.arange(8) % 2


def both(function, device, *tensors: torch.Tensor) -> None:
    """What a function finds on the device is what it finds on the CPU."""
    expected = function(*tensors)
    found = function(*(tensor.to(device) for tensor in tensors))
    expected, found = (np.asarray(torch.as_tensor(x).detach().cpu()) for x in (expected, found))
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_networks_that_judge_learn_what_they_learn_on_the_cpu(device):
    def segmented(images, classes):
        network = train_segmenter(images, classes, 1, 2, 0, bf16=False)
        segmentation = segment(network, images)
        assert hausdorff95(segmentation, classes, 1, (1.0, 1.0, 1.0)).shape == (8, 1)
        return dice_by_volume(segmentation, classes, 1)

    def classified(images, groups):
        network = train_classifier(images, groups, 2, 0, bf16=False, augment=classical)
        return classify(network, images)

    both(segmented, device, VOLUMES, CLASSES)
    both(classified, device, VOLUMES, GROUPS)
    both(lambda x: real_floor(x, x, 0, steps=2), device, VOLUMES)
    both(lambda x: train_encoder(x, 0, steps=2)(x), device, VOLUMES)


def test_metrics_of_volumes_are_those_of_the_cpu(device):
    both(lambda x: random_ensemble(0, x.device)(x), device, VOLUMES)
    both(lambda x: similarity(x, x), device, VOLUMES)
    both(lambda x: mean_similarity(x, 5, 0), device, VOLUMES)
    both(lambda c: label_volumes(c, 1, 8.0), device, CLASSES)
    both(lambda c: label_volumes(c, 0, 8.0), device, CLASSES)
    both(lambda x: foreground_volumes(x, -0.9, 8.0), device, VOLUMES)
    both(lambda x: kernel_distance(*band_features(x).split(4)), device, VOLUMES)
    both(lambda x: neighbourhoods(*band_features(x).split(4)), device, VOLUMES)


@pytest.mark.parametrize("made", [Vae, Dcgan, AlphaWgan])
def test_generators_to_compare_with_train_and_sample(device, made):
    baseline = made(SHAPE, 0, device)
    train_baseline(baseline, VOLUMES, 0.0, baseline.batch, 0)
    assert torch.isfinite(baseline.sample(2, torch.Generator().manual_seed(0))).all()


def test_detectors_to_compare_with_train_and_map(device):
    networks = Networks.build(SHAPE, 0, 8, Stages((8, 8), 4, 1))
    networks.requires_grad(False)
    networks.to(device)
    encoder = Encoder(SHAPE, 1, 8, Stages((8, 8), 4, 1)).to(device)
    for detector in (Denoiser(0, device), PostHocEncoder(networks, encoder)):
        detector.step(VOLUMES.to(device), torch.Generator().manual_seed(0))
        assert torch.isfinite(detector.map(VOLUMES.to(device))).all()
    assert torch.isfinite(Untrained(networks).map(VOLUMES.to(device))).all()


@pytest.mark.parametrize("name", list(SIMPLE))
def test_simple_methods_map_what_they_map_on_the_cpu(device, name):
    def mapped(volumes):
        method = SIMPLE[name]()
        method.fit(volumes)
        return method.map(volumes[:2])

    both(mapped, device, VOLUMES)
