"""What scorers work with: volumes, and the model's outputs for them, each computed once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.density import FeatureDensity
from medgan.anomaly.features import coarse_features
from medgan.anomaly.healthy import Healthy
from medgan.anomaly.statistics import MapStatistics

Densities = Mapping[str, FeatureDensity]
LOCAL, LATENT = "local", "latent"
SHARED = (LOCAL, LATENT)
"""Densities that do not need the discriminator."""
_MOST = 5.0
"""Healthy standard deviations beyond which a deviation is the same to a network."""


@dataclass(frozen=True)
class ScoringNetworks:
    """Functions and densities of a model that scorers use.

    Attributes:
        encode: volumes (B, C, X, Y, Z) to latents (B, L); None without generator.
        generate: latents to volumes; None where the model was trained to restore scans.
        features: the discriminator's features of volumes, finest first; None without discriminator.
        densities: of healthy training scans: of `LOCAL` features, of the discriminator's stages
            ("stage 0" is the finest that fits) and of the `LATENT`.
        localise: its input (B, C, X, Y, Z) to a logit for every voxel; None without a localiser.
        inputs: further inputs of the localiser, of `INPUTS`.
        restore: its input to the healthy volumes; None without a restorer.
        restorer_inputs: further inputs of the restorer, of `INPUTS`.
        healthy: what is usual at each voxel of aligned scans; None without a template.
    """

    encode: Callable[[Tensor], Tensor] | None
    generate: Callable[[Tensor], Tensor] | None
    features: Callable[[Tensor], list[Tensor]] | None
    densities: Densities
    localise: Callable[[Tensor], Tensor] | None = None
    inputs: tuple[str, ...] = ()
    restore: Callable[[Tensor], Tensor] | None = None
    restorer_inputs: tuple[str, ...] = ()
    healthy: Healthy | None = None

    @property
    def counterpart(self) -> Literal["restored", "reconstructed", "mean"]:
        """What the healthy counterpart of a scan is: the mean healthy scan without networks."""
        if self.restore is not None:
            return "restored"
        return "mean" if self.generate is None else "reconstructed"


@dataclass(frozen=True)
class ScoringContext:
    """Volumes and the model's outputs for them, each computed once when first used.

    Attributes:
        volume: (B, C, X, Y, Z) in [-1, 1].
        networks: the model's.
        known: what is usual in these volumes, where it is known already.
    """

    volume: Float[Tensor, "B C X Y Z"]
    networks: ScoringNetworks
    known: MapStatistics | None = None

    @cached_property
    def latent(self) -> Float[Tensor, "B L"]:
        """The encoder's latents."""
        assert self.networks.encode is not None
        return self.networks.encode(self.volume).float()

    @cached_property
    def recon(self) -> Float[Tensor, "B C X Y Z"]:
        """Reconstructions from these latents."""
        return self.generated(self.latent)

    def generated(self, latent: Tensor) -> Tensor:
        """Volumes of latents."""
        assert self.networks.generate is not None
        return self.networks.generate(latent).float()

    @cached_property
    def restored(self) -> Float[Tensor, "B C X Y Z"]:
        """The volumes with healthy tissue in place of lesions."""
        assert self.networks.restore is not None
        return self.networks.restore(network_input(self, self.networks.restorer_inputs)).float()

    @property
    def counterpart(self) -> Float[Tensor, "B C X Y Z"]:
        """The healthy counterparts: restored or reconstructed by networks, or the mean scan."""
        if self.networks.counterpart == "mean":
            return self.usual.mean.expand_as(self.volume)
        return self.restored if self.networks.counterpart == "restored" else self.recon

    @cached_property
    def features(self) -> list[Tensor]:
        """The discriminator's features."""
        return self.features_of(self.volume)

    def features_of(self, volume: Tensor) -> list[Tensor]:
        """The discriminator's features of volumes."""
        assert self.networks.features is not None
        return self.networks.features(volume)

    @cached_property
    def distance(self) -> Float[Tensor, "B 1 X Y Z"]:
        """Mahalanobis distance of local features at each position."""
        found = self.networks.densities[LOCAL].distance(coarse_features(self.volume))
        return self.enlarged(found)

    @cached_property
    def usual(self) -> MapStatistics:
        """Mean and spread of healthy scans at each voxel."""
        if self.known is not None:
            return self.known
        assert self.networks.healthy is not None
        return self.networks.healthy.at(self.volume)

    @cached_property
    def deviation(self) -> Float[Tensor, "B C X Y Z"]:
        """Signed difference from the mean healthy scan, in healthy standard deviations."""
        return self.usual.standardise(self.volume)

    def enlarged(self, coarse: Float[Tensor, "B C x y z"]) -> Float[Tensor, "B C X Y Z"]:
        """Interpolated to the grid of the volumes."""
        return F.interpolate(coarse.float(), size=self.volume.shape[2:], mode="trilinear")


INPUTS: dict[str, Callable[[ScoringContext], Tensor]] = {
    "density": lambda context: context.distance - 1,
    "recon": lambda context: context.counterpart,
    "mean": lambda context: context.usual.mean.expand_as(context.volume),
    "deviation": lambda context: context.deviation.clamp(-_MOST, _MOST) / _MOST,
}
"""Inputs of a localiser or a restorer besides the volume."""


def input_channels(inputs: Sequence[str], images: int) -> int:
    """Channels of a network's whole input, for scans of so many image channels."""
    return images + sum(1 if name == "density" else images for name in inputs)


def network_input(context: ScoringContext, inputs: Sequence[str]) -> Float[Tensor, "B C X Y Z"]:
    """Volumes and further inputs, concatenated along channels."""
    further = [INPUTS[name](context).to(context.volume.dtype) for name in inputs]
    return torch.cat([context.volume, *further], dim=1)


def local_density(batches: Callable[[], Iterable[Tensor]]) -> FeatureDensity:
    """The density of hand-made local features; `batches` as in `learn_densities`."""
    return FeatureDensity.fit(coarse_features(batch) for batch in batches())
