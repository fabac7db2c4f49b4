"""Adversarial objective, gradient penalty and reconstruction: tensors in, tensor out."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def relativistic_discriminator_loss(
    real_logits: Float[Tensor, " B"], fake_logits: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """RpGAN loss of the discriminator, pairing each real volume with one fake.

    Args:
        real_logits: shape (B,).
        fake_logits: shape (B,).

    Returns:
        Scalar, mean over the pairs.

    Reference: Huang et al. 2024, arXiv 2501.05441, eq. 2.
    """
    return softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(
    real_logits: Float[Tensor, " B"], fake_logits: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """RpGAN loss of the generator: the discriminator's with the roles exchanged.

    Args:
        real_logits: shape (B,).
        fake_logits: shape (B,).

    Returns:
        Scalar, mean over the pairs.

    Reference: Huang et al. 2024, arXiv 2501.05441, eq. 2.
    """
    return softplus(real_logits - fake_logits).mean()


def gradient_penalty(
    logits: Float[Tensor, " B"], volume: Float[Tensor, "B C X Y Z"]
) -> Float[Tensor, ""]:
    """Zero-centred gradient penalty: R1 on real volumes, R2 on fakes.

    The square is summed over the voxels of a volume and averaged over volumes; the factor
    gamma / 2 is the caller's.

    Args:
        logits: shape (B,), computed from `volume`, which requires a gradient.
        volume: shape (B, C, X, Y, Z).

    Returns:
        Scalar that can be differentiated once more.

    Reference: Mescheder et al. 2018, arXiv 1801.04406, eq. 9; Huang et al. 2024, eq. 3.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), volume, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3, 4)).mean()


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
