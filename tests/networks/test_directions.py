import pytest
import torch

from medgan.networks.directions import closed_form, first_layers
from tests.kit.models import SIZES, make_conditioned


def test_directions_are_the_singular_vectors_of_what_the_latent_enters_by():
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))[0]
    weights = torch.diag(torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0])) @ rotation
    found = closed_form(weights.double(), 2)
    for vector, strongest in zip(found.vectors, (rotation[1], rotation[4]), strict=True):
        assert abs(float(vector @ strongest)) == pytest.approx(1, abs=1e-5)
        assert vector[vector.abs().argmax()] > 0
    assert found.shares.tolist() == pytest.approx([25 / 55, 16 / 55], abs=1e-6)


def test_the_condition_has_no_part_in_the_directions_of_a_latent():
    generator = make_conditioned().networks.generator
    weights = first_layers(generator)
    rows = generator.start.out_features + sum(scale.out_features for scale in generator.scales)
    assert weights.shape == (rows, SIZES.latent)
    every = closed_form(weights, SIZES.latent)
    assert (every.vectors @ every.vectors.T).allclose(torch.eye(SIZES.latent), atol=1e-5)
    effect = (weights.float() @ every.vectors.T).norm(dim=0)
    assert (effect[:-1] >= effect[1:] - 1e-5).all()
    assert (effect.square() / effect.square().sum()).allclose(every.shares, atol=1e-5)
