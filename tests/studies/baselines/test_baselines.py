import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from medgan.studies.baselines import blocks, ha_gan
from medgan.studies.baselines.alpha_wgan import gradient_penalty
from medgan.studies.baselines.blocks import Growing, Shrinking, move, stages
from medgan.studies.baselines.dcgan import Dcgan, hinge
from medgan.studies.baselines.plain import PlainGan
from medgan.studies.baselines.training import train_baseline
from medgan.studies.baselines.vae import Vae, gaussian_kl
from medgan.studies.baselines.widths import fitted_widths, parameters
from medgan.studies.generated_sets import BASELINES

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def thin(monkeypatch):
    """Thin networks: what is tested does not depend on their width."""
    monkeypatch.setattr(blocks, "WIDTH", 4)
    monkeypatch.setattr("medgan.studies.baselines.alpha_wgan.LATENT", 12)
    monkeypatch.setattr("medgan.studies.baselines.alpha_wgan.CODE_UNITS", 16)
    monkeypatch.setattr("medgan.studies.baselines.vae.CHANNELS", 4)
    for name, width in (("LATENT", 12), ("WIDEST", 16), ("COMMON", 16)):
        monkeypatch.setattr(f"medgan.studies.baselines.ha_gan.{name}", width)


def volumes(count=6, shape=(16, 16, 16)):
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, *shape, generator=random) * 2 - 1


def trained(name, seed=0, shape=(16, 16, 16)):
    baseline = BASELINES[name](shape, seed, CPU)
    effort = train_baseline(baseline, volumes(shape=shape), 0.0, 2 * baseline.batch, seed)
    assert effort.volumes_seen == 2 * baseline.batch
    return baseline


def weights(baseline):
    return torch.cat([p.detach().flatten() for n in baseline.networks() for p in n.parameters()])


@pytest.mark.parametrize("name", BASELINES)
def test_two_steps_move_every_network_and_samples_fit_the_grid(name):
    shape = (16, 32, 16)
    fresh, baseline = BASELINES[name](shape, 0, CPU), trained(name, shape=shape)
    for before, after in zip(fresh.networks(), baseline.networks(), strict=True):
        pairs = zip(before.parameters(), after.parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs)
    samples = baseline.sample(3, torch.Generator().manual_seed(0))
    assert samples.shape == (3, 1, *shape)
    assert samples.dtype == torch.float32
    assert -1 <= samples.min() < samples.max() <= 1
    assert (samples[0] - samples[1]).abs().max() > 0


@pytest.mark.parametrize("name", BASELINES)
def test_weights_and_samples_are_a_function_of_the_seed(name):
    torch.manual_seed(1)
    first = trained(name)
    torch.manual_seed(2)
    second, third = trained(name), trained(name, seed=1)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(third))
    draws = [b.sample(20, torch.Generator().manual_seed(5)) for b in (first, first, second)]
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


def test_drawn_volumes_do_not_depend_on_how_many_are_drawn():
    baseline = trained("dcgan")
    few, many = (baseline.sample(n, torch.Generator().manual_seed(0)) for n in (2, 20))
    assert torch.allclose(few, many[:2], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "count"),
    [((16, 16, 16), 2), ((32, 48, 32), 3), ((64, 64, 64), 4), ((80, 96, 80), 4), ((256,) * 3, 4)],
)
def test_halving_ends_at_four_voxels_or_after_four_times(shape, count):
    assert stages(shape) == count


@pytest.mark.parametrize("transposed", [True, False])
def test_growing_and_shrinking_mirror_each_other(transposed):
    shape = (32, 48, 32)
    volume = Growing(shape, 5, transposed)(torch.randn(2, 5))
    assert volume.shape == (2, 1, *shape)
    assert Shrinking(shape, 7, batch_norm=True)(volume).shape == (2, 7)


def test_time_ends_a_training_and_every_volume_is_seen_in_turn():
    class Counter:
        batch = 4
        seen: list[float] = []  # noqa: RUF012 - a fresh class a test

        def networks(self):
            return [nn.Linear(1, 1)]

        def step(self, volume, random):
            self.seen += volume.flatten().tolist()

        def sample(self, count, random):
            raise NotImplementedError

    counter = Counter()
    train_baseline(counter, torch.arange(6.0).view(6, 1, 1, 1, 1), 0.0, 24, 0)
    assert sorted(counter.seen[:6]) == sorted(counter.seen[6:12]) == [*range(6)]
    assert counter.seen[:6] != counter.seen[6:12]
    effort = train_baseline(counter, torch.zeros(6, 1, 1, 1, 1), 0.001, 1, 0)
    assert effort.volumes_seen > 4
    assert 0.06 <= effort.seconds < 2


def test_a_loss_that_is_not_finite_moves_nothing():
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(FloatingPointError):
        move(torch.optim.SGD([weight], 1.0), weight.sum() * math.nan)
    assert weight.item() == 1


def test_the_penalty_of_a_linear_critic_is_how_far_its_length_is_from_one(generator):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(8, 1))
    length = critic[1].weight.norm().item()
    real, fake = torch.randn(2, 5, 1, 2, 2, 2, generator=generator)
    penalty = gradient_penalty(critic, real, fake, generator)
    assert penalty.item() == pytest.approx((length - 1) ** 2, rel=1e-4)


def test_the_hinge_loss_in_closed_form():
    assert hinge(torch.tensor([2.0, 1.0]), torch.tensor([-3.0, -1.0])).item() == 0
    assert hinge(torch.tensor([0.0, -1.0]), torch.tensor([0.0])).item() == 1.5 + 1


def test_the_divergence_agrees_with_torch_and_is_zero_for_the_prior(generator):
    mean, log_variance = torch.randn(2, 4, 6, generator=generator)
    posterior = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(posterior, Normal(0, 1)).sum(dim=1)
    assert torch.allclose(gaussian_kl(mean, log_variance), expected, rtol=1e-4)
    assert gaussian_kl(torch.zeros(1, 6), torch.zeros(1, 6)).item() == 0


def test_spectral_norm_holds_the_discriminator_and_batch_norm_only_the_generator():
    baseline = Dcgan((16, 16, 16), 0, CPU)
    baseline.step(volumes(8), torch.Generator().manual_seed(0))
    kinds = [{type(m) for m in network.modules()} for network in baseline.networks()]
    assert nn.BatchNorm3d in kinds[0]
    assert nn.BatchNorm3d not in kinds[1]
    layers = [m for m in baseline.discriminator.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    assert all(hasattr(layer, "parametrizations") for layer in layers)


def test_a_vae_learns_to_rebuild_what_it_is_shown():
    shown = torch.full((2, 1, 16, 16, 16), -0.8)
    shown[0, :, 8:] = shown[1, :, :, 8:] = 0.8  # a bright half each, along X and along Y
    baseline = Vae((16, 16, 16), 0, CPU)

    def error():
        with torch.no_grad():
            mean, _ = baseline.network.encode_forward(shown)
            return float((baseline.network.decode_forward(mean, False) - shown).abs().mean())

    before = error()
    train_baseline(baseline, shown, 0.0, 60 * baseline.batch, 0)
    assert error() < 0.6 * before


def test_a_vae_survives_a_variance_beyond_all_numbers():
    baseline = Vae((16, 16, 16), 0, CPU)
    with torch.no_grad():
        baseline.network.logvar.bias.fill_(300.0)
    baseline.step(torch.rand(2, 1, 16, 16, 16), torch.Generator().manual_seed(0))
    assert all(bool(torch.isfinite(p).all()) for p in baseline.network.parameters())


def test_a_slab_of_ha_gan_is_the_same_slab_of_its_whole_volume():
    generator = ha_gan.Hierarchical((16, 16, 32))
    code, place = torch.randn(2, ha_gan.LATENT), 5
    with torch.no_grad():
        features = generator.common(code)
        coarse, fine = generator(code, place)
        head = nn.Sequential(*list(generator.fine.children())[:2])  # before normalisation
        whole = ha_gan.slab(head(features), 2 * place)
        part = head(ha_gan.slab(features, place))
    assert coarse.shape == (2, 1, 8, 8, 16)
    assert fine.shape == (2, 1, 16, 16, 8)
    assert torch.allclose(whole[..., 1:-1], part[..., 1:-1], atol=1e-6)


def test_the_fine_judge_of_ha_gan_is_told_where_a_slab_was_cut():
    judge = ha_gan.Judge((16, 16, 8), placed=True).eval()
    volume = torch.rand(2, 1, 16, 16, 8)
    with torch.no_grad():
        assert not torch.allclose(judge(volume, 0.0), judge(volume, 1.0))
        assert torch.equal(judge(volume, 0.5), judge(volume, 0.5))


@pytest.mark.parametrize("wanted", [600_000, 2_000_000])
def test_a_plain_gan_has_about_the_parameters_that_are_wanted_and_trains(wanted):
    gan = PlainGan((16, 32, 16), wanted, 0, CPU)
    assert parameters(gan.networks()) == pytest.approx(wanted, rel=0.15)
    before = weights(gan)
    gan.step(volumes(2, (16, 32, 16)), torch.Generator().manual_seed(0))
    assert not torch.equal(before, weights(gan))
    assert gan.generator(torch.zeros(2, 128)).shape == (2, 1, 16, 32, 16)


def test_widths_double_but_for_the_coarsest_which_fits():
    def build(widths):
        return [nn.Linear(width, 100, bias=False) for width in widths]

    assert fitted_widths(3, 100 * (8 + 16 + 24), build) == [8, 16, 24]
    assert fitted_widths(1, 4000, build) == [40]
