"""Adversarial objectives, gradient penalties and reconstruction: tensors in, tensor out."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

Logits = Float[Tensor, "..."]
Scalar = Float[Tensor, ""]


def relativistic_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """RpGAN loss of the discriminator, pairing each real logit with one of a fake.

    Args:
        real_logits: any shape.
        fake_logits: the same shape.

    Returns:
        Scalar, mean over the pairs.

    Reference: Huang et al. 2024, arXiv 2501.05441, eq. 2.
    """
    return softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """RpGAN loss of the generator: the discriminator's with the roles exchanged.

    Reference: Huang et al. 2024, arXiv 2501.05441, eq. 2.
    """
    return softplus(real_logits - fake_logits).mean()


def wasserstein_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Negative estimate of the Wasserstein distance, unbounded below.

    Reference: Arjovsky et al. 2017, arXiv 1701.07875, eq. 3.
    """
    return fake_logits.mean() - real_logits.mean()


def negative_logit_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Loss of the generator in WGAN and with the hinge: the fakes' logits, negated."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Reals below 1 and fakes above -1 cost what they lack.

    Reference: Lim and Ye 2017, arXiv 1705.02894, eq. 3; Miyato et al. 2018, arXiv 1802.05957.
    """
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def logistic_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Cross-entropy of calling reals real and fakes fake.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, eq. 1.
    """
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def non_saturating_generator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Cross-entropy of calling fakes real.

    Reference: Goodfellow et al. 2014, arXiv 1406.2661, section 3.
    """
    return softplus(-fake_logits).mean()


def least_squares_discriminator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Half the squared distances of reals from 1 and of fakes from 0.

    Reference: Mao et al. 2017, arXiv 1611.04076, eq. 9.
    """
    return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2


def least_squares_generator_loss(real_logits: Logits, fake_logits: Logits) -> Scalar:
    """Half the squared distance of fakes from 1.

    Reference: Mao et al. 2017, arXiv 1611.04076, eq. 9.
    """
    return (fake_logits - 1).square().mean() / 2


class Objective(NamedTuple):
    """What discriminator and generator minimise; both are given real and fake logits."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


OBJECTIVES = {
    "relativistic": Objective(relativistic_discriminator_loss, relativistic_generator_loss),
    "wgan-gp": Objective(wasserstein_discriminator_loss, negative_logit_loss),
    "hinge": Objective(hinge_discriminator_loss, negative_logit_loss),
    "non-saturating": Objective(logistic_discriminator_loss, non_saturating_generator_loss),
    "least-squares": Objective(least_squares_discriminator_loss, least_squares_generator_loss),
}


def squared_gradients(
    logits: Float[Tensor, " B"], volume: Float[Tensor, "B C X Y Z"]
) -> Float[Tensor, " B"]:
    """The zero-centred gradient penalty of each volume: R1 of real volumes, R2 of fakes.

    The square is summed over the voxels of a volume; the mean over volumes and the factor
    gamma / 2 are the caller's.

    Args:
        logits: shape (B,), computed from `volume`, which requires a gradient.
        volume: shape (B, C, X, Y, Z).

    Returns:
        Shape (B,); can be differentiated once more.

    Reference: Mescheder et al. 2018, arXiv 1801.04406, eq. 9; Huang et al. 2024, eq. 3.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), volume, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3, 4))


def one_centred_penalty(logits: Float[Tensor, " B"], volume: Float[Tensor, "B C X Y Z"]) -> Scalar:
    """Squared distance of the gradient's norm from 1, for volumes between real and fake.

    Args:
        logits: shape (B,), computed from `volume`, which requires a gradient.
        volume: shape (B, C, X, Y, Z), from `between`.

    Returns:
        Scalar that can be differentiated once more; the factor lambda is the caller's.

    Reference: Gulrajani et al. 2017, arXiv 1704.00028, eq. 3.
    """
    norm = (squared_gradients(logits, volume) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def between(
    real: Float[Tensor, "B C X Y Z"], fake: Float[Tensor, "B C X Y Z"], share: Float[Tensor, " B"]
) -> Float[Tensor, "B C X Y Z"]:
    """Points on the lines from real to fake volumes; `share` 0 is real, 1 is fake."""
    return torch.lerp(real, fake, share[:, None, None, None, None])


def matching_loss(
    right: Float[Tensor, " B"], wrong: Float[Tensor, " B"], differ: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """How badly volumes with their captions are told from the same with captions of others.

    Args:
        right: logits with their own captions.
        wrong: logits with those of others.
        differ: which of the captions do.

    Reference: Reed et al. 2016, arXiv 1605.05396, section 4.2 (real images with wrong text), as a
        relativistic pair.
    """
    told = softplus(wrong - right) * differ
    return told.sum() / differ.sum().clamp(min=1)


def reconstruction_loss(
    volume: Float[Tensor, "B C X Y Z"], recon: Float[Tensor, "B C X Y Z"]
) -> Float[Tensor, ""]:
    """Mean absolute difference over all voxels, in intensity units of [-1, 1]."""
    return (volume - recon).abs().mean()


def latent_loss(latent: Float[Tensor, "B L"], recovered: Float[Tensor, "B L"]) -> Float[Tensor, ""]:
    """Mean squared distance between the latent of a fake and the one read back from it.

    It keeps the encoder inside the generator's prior and punishes a generator that ignores
    its latent, so it also works against lost diversity.

    Reference: Donahue et al. 2017, arXiv 1605.09782, section 4 (latent regressor).
    """
    return (latent - recovered).square().mean()


def localisation_loss(
    logits: Float[Tensor, "B 1 X Y Z"],
    truth: Float[Tensor, "B 1 X Y Z"],
    voxels: float = 5.0,
    summed: Callable[[Tensor], Tensor] = lambda own: own,
) -> Scalar:
    """Cross entropy of every voxel plus one minus the soft Dice of all volumes together.

    Voxels that do not belong are few: cross entropy alone would be content with finding none. The
    Dice is that of the batch, as that of a volume without any says nothing but "fewer".

    Args:
        logits: higher is stranger.
        truth: 1 where a volume is not healthy, else 0.
        voxels: weight of the cross entropy.
        summed: adds what other processes have of the batch to a sum over the volumes of this one.

    Reference: Milletari et al. 2016 (V-Net), arXiv 1606.04797, eq. 2, with sums in place of
        squares and one added above and below.
    """
    found = logits.sigmoid()
    both, either = summed(torch.stack([(found * truth).sum(), (found + truth).sum()]))
    overlap = (2 * both + 1) / (either + 1)
    entropy = binary_cross_entropy_with_logits(logits, truth)
    return voxels * entropy + 1 - overlap


def weighted_error(
    target: Float[Tensor, "B T X Y Z"],
    drawn: Float[Tensor, "B T X Y Z"],
    weight: Float[Tensor, "B 1 X Y Z"],
) -> Scalar:
    """Mean absolute difference over the voxels that count, in units of [-1, 1].

    Args:
        target: what is wanted.
        drawn: what was made.
        weight: 1 where the target is known, else 0.
    """
    weights = weight.expand_as(target)
    return ((target - drawn).abs() * weights).sum() / weights.sum().clamp(min=1)


def ranked_probability_score(
    target: Float[Tensor, "B T X Y Z"],
    a: Float[Tensor, "B T X Y Z"],
    b: Float[Tensor, "B T X Y Z"],
    weight: Float[Tensor, "B 1 X Y Z"],
) -> Scalar:
    """Continuous ranked probability score of two answers, over the voxels that count.

    It is least in the mean where answers are drawn as targets are, and the absolute error where
    both are alike.

    Args:
        target: what is wanted.
        a: an answer.
        b: another, drawn independently.
        weight: 1 where the target is known, else 0.

    Reference: Gneiting and Raftery 2007, Strictly proper scoring rules, JASA 102(477), eq. 21.
    """
    error = (weighted_error(target, a, weight) + weighted_error(target, b, weight)) / 2
    return error - weighted_error(a, b, weight) / 2
