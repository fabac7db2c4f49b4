import pytest
import torch

from medgan.networks.blocks import Stages
from medgan.networks.condition import ConditionEmbedding
from medgan.networks.gan import Networks

SHAPE, LATENT, WIDTH = (16, 16, 16), 7, 3


def make(condition=WIDTH, seed=0):
    torch.manual_seed(seed)
    return Networks.build(SHAPE, 1, LATENT, Stages((4, 6), 4, 1), condition)


@pytest.fixture
def volume(generator):
    return torch.randn(2, 1, *SHAPE, generator=generator)


def test_the_logit_is_the_unconditional_one_plus_the_projection_of_the_pooled_features(volume):
    net = make().discriminator
    condition = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -2.0]])
    pooled = net.pool(net.features(volume)[-1]).flatten(1)
    hidden = torch.nn.functional.leaky_relu(condition @ net.embed.first.weight.T, 0.2)
    embedded = hidden @ net.embed.second.weight.T
    by_hand = [
        net.logit(h)[0] + torch.dot(e, h) / 6**0.5 for e, h in zip(embedded, pooled, strict=True)
    ]
    assert torch.allclose(net(volume, condition), torch.stack(by_hand), atol=1e-6)
    assert not torch.allclose(net(volume, condition), net(volume), atol=1e-4)


def test_an_unknown_condition_gives_exactly_the_unconditional_logit(volume):
    net = make().discriminator
    assert torch.equal(net(volume, torch.zeros(2, WIDTH)), net(volume))


def test_a_generator_heeds_its_condition_and_takes_none_for_unknown(generator):
    net = make().generator
    latent = torch.randn(1, LATENT, generator=generator)
    one, other, unknown = (net(latent, torch.tensor([[v, 1.0, 0.0]]) * k)
                           for v, k in ((1, 1), (-1, 1), (0, 0)))  # fmt: skip
    assert torch.equal(net(latent), unknown)
    assert (one - other).abs().mean() > 0.01


def test_without_conditions_the_weights_are_those_of_a_build_that_knows_none():
    plain, conditioned = make(0), make()
    torch.manual_seed(0)
    old = Networks.build(SHAPE, 1, LATENT, Stages((4, 6), 4, 1))
    for name, module in plain.modules().items():
        a, b = module.state_dict(), old.modules()[name].state_dict()
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert "embed.first.weight" in conditioned.generator.state_dict()
    assert plain.generator(torch.zeros(2, LATENT), torch.zeros(2, 0)).shape[0] == 2


def test_an_embedding_without_bias_keeps_zero():
    assert not ConditionEmbedding(4, 5, bias=False)(torch.zeros(3, 4)).any()
    assert ConditionEmbedding(4, 5)(torch.zeros(3, 4)).any()
