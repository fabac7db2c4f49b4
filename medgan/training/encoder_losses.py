"""What the encoder learns by."""

from dataclasses import dataclass

ENCODER_EVERY = 2
"""Generator steps from one encoder step to the next."""
RECONSTRUCTION_WEIGHT, LATENT_WEIGHT = 10.0, 0.5
"""Weights of the reconstruction loss and of the latent loss."""


@dataclass(frozen=True)
class EncoderLosses:
    """What the encoder learns by, beside the generator's realism.

    Attributes:
        every: generator steps from one encoder step to the next.
        augmentation: probability of each change to a scan before it is corrupted and restored.
    """

    every: int
    augmentation: float
