import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from medgan.networks.losses import (
    OBJECTIVES,
    between,
    latent_loss,
    localisation_loss,
    matching_loss,
    one_centred_penalty,
    ranked_probability_score,
    reconstruction_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    squared_gradients,
    weighted_error,
)

SHAPE = (1, 4, 6, 5)


def volumes(generator, count=3):
    return torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("logit", [-80.0, 0.0, 3.5])
def test_relativistic_losses_are_log_2_at_equal_logits(logit):
    logits = torch.full((4,), logit)
    for loss in (relativistic_discriminator_loss, relativistic_generator_loss):
        assert float(loss(logits, logits)) == pytest.approx(math.log(2))


def test_the_generator_loss_is_the_discriminator_loss_with_roles_exchanged(generator):
    real, fake = torch.randn(2, 7, generator=generator)
    swapped = relativistic_discriminator_loss(fake, real)
    assert torch.equal(relativistic_generator_loss(real, fake), swapped)
    assert not torch.isclose(relativistic_generator_loss(real, fake), swapped.new_zeros(()))
    assert not torch.isclose(swapped, relativistic_discriminator_loss(real, fake))


def test_the_discriminator_gains_and_the_generator_loses_as_real_outscores_fake():
    fake = torch.zeros(2)
    gaps = [-5.0, -1.0, 0.0, 1.0, 5.0]
    losses = [float(relativistic_discriminator_loss(fake + g, fake)) for g in gaps]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(gaps)
    losses = [float(relativistic_generator_loss(fake + g, fake)) for g in gaps]
    assert losses == sorted(losses)
    assert len(set(losses)) == len(gaps)


def test_relativistic_losses_pair_the_logits_and_see_only_their_difference(generator):
    real, fake = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    by_pair = [math.log1p(math.exp(float(f - r))) for r, f in zip(real, fake, strict=True)]
    loss = relativistic_discriminator_loss(real, fake)
    assert float(loss) == pytest.approx(sum(by_pair) / 5)
    assert torch.allclose(relativistic_discriminator_loss(real + 9, fake + 9), loss)
    assert not torch.isclose(relativistic_discriminator_loss(real, fake.flip(0)), loss)


def test_relativistic_losses_agree_with_the_cross_entropy_of_the_difference(generator):
    real, fake = torch.randn(2, 6, generator=generator)
    reference = binary_cross_entropy_with_logits(real - fake, torch.ones(6))
    assert torch.allclose(relativistic_discriminator_loss(real, fake), reference)


def test_relativistic_losses_stay_finite_and_keep_a_gradient_at_huge_logits():
    real = torch.tensor([-1e4], requires_grad=True)
    loss = relativistic_discriminator_loss(real, torch.tensor([1e4]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2e4)
    assert real.grad.item() == pytest.approx(-1.0)


def r1(logits, volume):
    return squared_gradients(logits, volume).mean()


def test_r1_penalty_of_a_linear_critic_is_its_squared_weight(generator):
    weight = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    for count in (1, 3):
        volume = volumes(generator, count)
        penalty = r1((volume * weight).sum(dim=(1, 2, 3, 4)) + 7, volume)
        assert penalty.item() == pytest.approx(weight.square().sum().item())


def test_r1_penalty_of_a_quadratic_critic_is_its_curvature_squared_times_the_norm(generator):
    volume = volumes(generator)
    penalty = r1(1.5 * volume.square().sum(dim=(1, 2, 3, 4)), volume)
    expected = 9 * volume.detach().square().sum(dim=(1, 2, 3, 4)).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)


def test_r1_penalty_scales_with_the_square_of_the_critic(generator):
    volume = volumes(generator)
    logits = torch.sin(volume).sum(dim=(1, 2, 3, 4))
    once = r1(logits, volume)
    thrice = r1(3 * logits, volume)
    assert thrice.item() == pytest.approx(9 * once.item(), rel=1e-5)


def test_r1_penalty_of_a_constant_critic_is_zero(generator):
    volume = volumes(generator)
    assert r1((0 * volume).sum(dim=(1, 2, 3, 4)) + 4, volume).item() == 0


def test_r1_penalty_does_not_depend_on_the_batch_size(generator):
    few = volumes(generator)
    many = few.detach().repeat(4, 1, 1, 1, 1).requires_grad_(True)
    penalties = [r1(torch.sin(v).sum(dim=(1, 2, 3, 4)), v).item() for v in (few, many)]
    assert penalties[0] == pytest.approx(penalties[1])


def test_r1_penalty_can_be_differentiated_for_the_critics_weights(generator):
    weight = torch.randn(SHAPE, generator=generator, dtype=torch.float64, requires_grad=True)
    volume = volumes(generator)
    r1((volume * weight).sum(dim=(1, 2, 3, 4)), volume).backward()
    assert torch.allclose(weight.grad, 2 * weight.detach(), rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "shape"), [(reconstruction_loss, (2, 1, 4, 3, 5)), (latent_loss, (2, 9))]
)
def test_reconstruction_and_latent_losses_are_symmetric_and_zero_only_for_equals(
    loss, shape, generator
):
    a, b = torch.randn(2, *shape, generator=generator)
    assert loss(a, a).item() == 0
    assert loss(a, b).item() > 0
    assert torch.equal(loss(a, b), loss(b, a))
    assert torch.allclose(loss(a.repeat_interleave(3, 0), b.repeat_interleave(3, 0)), loss(a, b))


def test_reconstruction_loss_is_the_absolute_offset_and_latent_loss_its_square():
    volume, latent = torch.zeros(2, 1, 3, 4, 5), torch.zeros(2, 6)
    assert reconstruction_loss(volume, volume - 0.3).item() == pytest.approx(0.3)
    assert latent_loss(latent, latent - 0.3).item() == pytest.approx(0.09)


def test_reconstruction_loss_averages_over_voxels():
    volume = torch.zeros(2, 1, 2, 2, 2)
    recon = volume.clone()
    recon[1, 0, 1, 0, 1] = 8.0
    assert reconstruction_loss(volume, recon).item() == pytest.approx(8 / 16)


CLOSED_FORMS = {
    "relativistic": (
        lambda r, f: math.log1p(math.exp(f - r)),
        lambda r, f: math.log1p(math.exp(r - f)),
    ),
    "wgan-gp": (lambda r, f: f - r, lambda r, f: -f),
    "hinge": (lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda r, f: -f),
    "non-saturating": (
        lambda r, f: math.log1p(math.exp(-r)) + math.log1p(math.exp(f)),
        lambda r, f: math.log1p(math.exp(-f)),
    ),
    "least-squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_agrees_with_its_closed_form(name, generator):
    real, fake = 2 * torch.randn(2, 9, generator=generator, dtype=torch.float64)
    for loss, form in zip(OBJECTIVES[name], CLOSED_FORMS[name], strict=True):
        expected = [form(float(r), float(f)) for r, f in zip(real, fake, strict=True)]
        assert float(loss(real, fake)) == pytest.approx(sum(expected) / 9)
        assert float(loss(real.view(3, 3), fake.view(3, 3))) == pytest.approx(sum(expected) / 9)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_pulls_the_two_networks_against_each_other(name):
    real = torch.tensor([0.3, -0.2], requires_grad=True)
    fake = torch.tensor([0.1, -0.4], requires_grad=True)
    objective = OBJECTIVES[name]
    critic = torch.autograd.grad(objective.discriminator(real, fake), (real, fake))
    (builder,) = torch.autograd.grad(objective.generator(real, fake), fake)
    assert (critic[0] < 0).all()
    assert (builder < 0).all()
    if name != "least-squares":  # which pulls fakes to 0 from either side
        assert (critic[1] > 0).all()


def test_the_one_centred_penalty_of_a_linear_critic_is_its_norms_distance_from_one(generator):
    weight = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    for scale in (1.0, 1 / weight.norm()):
        volume = volumes(generator)
        penalty = one_centred_penalty((scale * weight * volume).sum(dim=(1, 2, 3, 4)), volume)
        assert penalty.item() == pytest.approx(
            (scale * weight.norm() - 1).item() ** 2, rel=1e-5, abs=1e-6
        )


def test_points_between_lie_on_the_line_from_real_to_fake(generator):
    real, fake = torch.randn(2, 3, *SHAPE, generator=generator)
    middle = between(real, fake, torch.tensor([0.0, 1.0, 0.25]))
    assert torch.equal(middle[0], real[0])
    assert torch.allclose(middle[1], fake[1])
    assert torch.allclose(middle[2], 0.75 * real[2] + 0.25 * fake[2], atol=1e-6)


def test_ranked_probability_score_is_least_for_answers_drawn_as_targets_are():
    random = torch.Generator().manual_seed(0)
    target = torch.randn(1, 1, 40, 40, 40, generator=random)
    weight = torch.ones_like(target)

    def score(spread):
        a, b = (spread * torch.randn(target.shape, generator=random) for _ in range(2))
        return float(ranked_probability_score(target, a, b, weight))

    scores = {spread: score(spread) for spread in (0.0, 0.5, 1.0, 1.5, 2.0)}
    assert min(scores, key=scores.__getitem__) == 1.0
    assert scores[1.0] == pytest.approx(1 / math.pi**0.5, rel=0.02)  # 0.56, of a normal
    assert scores[0.0] == pytest.approx((2 / math.pi) ** 0.5, rel=0.02)


def test_the_weighted_error_counts_known_voxels_alone():
    target, weight = torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4)
    drawn = torch.ones_like(target)
    assert weighted_error(target, drawn, weight) == 0
    weight[0, 0, 0] = 1
    drawn[0, 0, 0] = 3
    assert weighted_error(target, drawn, weight) == 3


def test_the_localisation_loss_is_cross_entropy_and_the_dice_of_the_batch_in_closed_form():
    # Odds of 1:1, 3:1 and 1:3 are answers of 0.5, 0.75 and 0.25.
    logits = torch.tensor([0.0, math.log(3), -math.log(3), 0.0]).view(2, 1, 1, 1, 2)
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(2, 1, 1, 1, 2)
    entropy = -(math.log(0.5) + math.log(0.75) + math.log(0.75) + math.log(0.5)) / 4
    dice = (2 * (0.5 + 0.75) + 1) / (0.5 + 0.75 + 0.25 + 0.5 + 2 + 1)
    for voxels in (5.0, 1.0, 0.0):
        loss = float(localisation_loss(logits, truth, voxels))
        assert loss == pytest.approx(voxels * entropy + 1 - dice)
    assert float(localisation_loss(logits, truth)) == pytest.approx(5 * entropy + 1 - dice)


def test_the_localisation_loss_of_right_answers_is_zero_even_without_anything_to_find():
    for truth in (torch.zeros(1, 1, 2, 3, 4), torch.ones(1, 1, 2, 3, 4)):
        assert float(localisation_loss(200 * truth - 100, truth)) == pytest.approx(0, abs=1e-6)


def test_the_dice_counts_what_other_processes_have_of_the_batch():
    logits, truth = torch.randn(2, 4, 1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    truth = (truth > 0).float()
    whole = float(localisation_loss(logits, truth, 0.0))
    others = logits[2:].sigmoid()
    of_others = torch.stack([(others * truth[2:]).sum(), (others + truth[2:]).sum()])
    part = localisation_loss(logits[:2], truth[:2], 0.0, lambda own: own + of_others)
    assert float(part) == pytest.approx(whole)


def test_the_matching_loss_is_the_mean_over_volumes_whose_captions_differ():
    right, wrong = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([0.0, 5.0, 1.0])
    differ = torch.tensor([True, False, True])
    expected = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    assert float(matching_loss(right, wrong, differ)) == pytest.approx(expected)
    assert float(matching_loss(right, wrong, ~differ)) == pytest.approx(math.log1p(math.exp(5)))
    assert float(matching_loss(right, wrong, differ & False)) == 0


def test_the_one_centred_penalty_has_a_gradient_where_the_critic_is_flat(generator):
    weight = torch.zeros(SHAPE, dtype=torch.float64, requires_grad=True)
    volume = volumes(generator)
    penalty = one_centred_penalty((weight * volume).sum(dim=(1, 2, 3, 4)), volume)
    penalty.backward()
    assert penalty.item() == pytest.approx(1, abs=1e-5)
    assert torch.isfinite(weight.grad).all()


def test_the_weighted_error_is_the_weighted_mean_of_distances():
    target, drawn = torch.tensor([[2.0, -1.0, 4.0]]), torch.tensor([[-1.0, -1.5, 4.0]])
    weight = torch.tensor([[1.0, 2.0, 5.0]])
    five = (1, 1, 3, 1, 1)
    found = weighted_error(target.view(five), drawn.view(five), weight.view(five))
    assert float(found) == pytest.approx((1 * 3 + 2 * 0.5 + 5 * 0) / (1 + 2 + 5))
    one = torch.tensor([[1.0, 0.0, 0.0]]).view(five)
    assert float(weighted_error(target.view(five), drawn.view(five), one)) == 3
