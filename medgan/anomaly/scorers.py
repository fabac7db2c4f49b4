"""The scorers: each gives a map of a scan, from the scan and what the model makes of it.

Those that look at the latent alone have one verdict for the whole scan: their map is a single
voxel. What a map's values are worth, calibration says.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.calibration import Mask, ScoringConfig
from medgan.anomaly.density import SHRINKAGE, FeatureDensity
from medgan.anomaly.features import MOST_POSITIONS, coarse_features, smoothed
from medgan.anomaly.maps import feature_map, residual_map, similarity_map
from medgan.core.errors import ConfigError
from medgan.core.volume import depth
from medgan.networks.latent import fit

Densities = Mapping[str, FeatureDensity]
LOCAL, LATENT = "local", "latent"
SHARED = (LOCAL, LATENT)
"""Densities that ask nothing of the discriminator."""
_STAGES = 2
"""So many stages of the discriminator have a density of their features."""
REFINEMENT = 10
"""Steps by which a latent is bettered."""
_DRAWS, _JITTER = 4, 0.3
"""Reconstructions beside the encoder's, and the spread of their latents about it."""
_STEADY = 0.05
"""Added to the spread of reconstructions, in units of [-1, 1]."""


@dataclass(frozen=True)
class ScoringNetworks:
    """What scorers ask of a model.

    Attributes:
        encode: volumes (B, 1, X, Y, Z) to latents (B, L).
        generate: latents to volumes.
        features: the discriminator's features of volumes, finest first; None without one.
        densities: of healthy training scans: `LOCAL` features, those of the discriminator's stages
            ("stage 0" is the finest that there is room for) and the `LATENT`.
        localise: its input (B, C, X, Y, Z) to a logit for every voxel; None without a localiser.
        inputs: what the localiser sees beside the volume, of `LOCALISER_INPUTS`.
    """

    encode: Callable[[Tensor], Tensor]
    generate: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], list[Tensor]] | None
    densities: Densities
    localise: Callable[[Tensor], Tensor] | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoringContext:
    """Volumes, and what the model makes of them, made once when first asked for.

    Attributes:
        volume: (B, 1, X, Y, Z) in [-1, 1].
        networks: the model's.
    """

    volume: Float[Tensor, "B 1 X Y Z"]
    networks: ScoringNetworks

    @cached_property
    def latent(self) -> Float[Tensor, "B L"]:
        """Where the encoder places them."""
        return self.networks.encode(self.volume).float()

    @cached_property
    def recon(self) -> Float[Tensor, "B 1 X Y Z"]:
        """What the generator draws from there."""
        return self.networks.generate(self.latent).float()

    @cached_property
    def features(self) -> list[Tensor]:
        """The discriminator's."""
        return self.seen(self.volume)

    def seen(self, volume: Tensor) -> list[Tensor]:
        """The discriminator's features of volumes."""
        assert self.networks.features is not None
        return self.networks.features(volume)

    @cached_property
    def distance(self) -> Float[Tensor, "B 1 X Y Z"]:
        """How unusual their local features are at their place."""
        found = self.networks.densities[LOCAL].distance(coarse_features(self.volume))
        return self.enlarged(found)

    def enlarged(self, coarse: Float[Tensor, "B C x y z"]) -> Float[Tensor, "B C X Y Z"]:
        """On the grid of the volumes."""
        return F.interpolate(coarse.float(), size=self.volume.shape[2:], mode="trilinear")


LOCALISER_INPUTS: dict[str, Callable[[ScoringContext], Tensor]] = {
    "density": lambda context: context.distance - 1,
    "recon": lambda context: context.recon,
}
"""What a localiser can see beside the volume itself."""


def localiser_input(context: ScoringContext) -> Float[Tensor, "B C X Y Z"]:
    """Volumes and what comes beside them, one channel each."""
    beside = [
        LOCALISER_INPUTS[name](context).to(context.volume.dtype) for name in context.networks.inputs
    ]
    return torch.cat([context.volume, *beside], dim=1)


def residual(context: ScoringContext) -> Tensor:
    """Difference from the reconstruction."""
    return residual_map(context.volume, context.recon)


def similarity(context: ScoringContext) -> Tensor:
    """Lack of structural similarity to the reconstruction."""
    return similarity_map(context.volume, context.recon)


def features(context: ScoringContext) -> Tensor:
    """Difference from the reconstruction in the discriminator's features."""
    x, y, z = context.volume.shape[2:]
    return feature_map(context.features, context.seen(context.recon), (x, y, z))


def density(context: ScoringContext) -> Tensor:
    """How unusual hand-made local features are at their place."""
    return context.distance


def discriminator(context: ScoringContext) -> Tensor:
    """How unusual the discriminator's features are at their place, the mean over its stages."""
    known = context.networks.densities
    maps = [known[stage(n)].distance(found) for n, found in enumerate(_stages(context.features))]
    return torch.stack([context.enlarged(one) for one in maps]).mean(dim=0)


def localiser(context: ScoringContext) -> Tensor:
    """The localiser's logits."""
    assert context.networks.localise is not None
    return context.networks.localise(localiser_input(context))


def ensemble(context: ScoringContext) -> Tensor:
    """Difference from the mean of several reconstructions, in units of their spread.

    Their latents lie about the encoder's. Where reconstructions differ from each other, a
    difference from them says little.

    Reference: arXiv 2412.07407 (distance from several reconstructions by their covariance), with
        a spread for each voxel in place of a covariance.
    """
    random = torch.Generator().manual_seed(0)
    recons = [context.recon]
    for _ in range(_DRAWS):
        step = torch.randn(context.latent.shape[1], generator=random).to(context.latent)
        recons.append(context.networks.generate(context.latent + _JITTER * step).float())
    several = torch.stack(recons)
    return (context.volume - several.mean(dim=0)).abs() / (several.std(dim=0) + _STEADY)


def refined(context: ScoringContext) -> Tensor:
    """Difference from the reconstruction after a few steps by which its latent is bettered."""
    recons = []
    for volume, start in zip(context.volume.split(1), context.latent.split(1), strict=True):
        found = fit(context.networks.generate, volume, start, REFINEMENT)
        recons.append(context.networks.generate(found.latent))
    return residual_map(context.volume, torch.cat(recons).float())


def latent(context: ScoringContext) -> Tensor:
    """How unusual the latent is among those of training scans: one voxel a scan."""
    return context.networks.densities[LATENT].distance(context.latent[:, :, None, None, None])


def reencoding(context: ScoringContext) -> Tensor:
    """Distance from the latent to that of the reconstruction: one voxel a scan.

    Reference: Akcay et al. 2018, GANomaly, arXiv 1805.06725, eq. 5.
    """
    again = context.networks.encode(context.recon).float()
    return (context.latent - again).square().mean(dim=1).sqrt()[:, None, None, None, None]


SCORERS: dict[str, Callable[[ScoringContext], Tensor]] = {
    scorer.__name__: scorer
    for scorer in (
        *(residual, similarity, features, density, discriminator, localiser),
        *(ensemble, refined, latent, reencoding),
    )
}


def stage(number: int) -> str:
    """The name of the density of a stage's features."""
    return f"stage {number}"


def available(networks: ScoringNetworks) -> list[str]:
    """The scorers that a model has all for."""
    needs = {"density": LOCAL, "discriminator": stage(0), "latent": LATENT}
    missing = {name for name, density in needs.items() if density not in networks.densities}
    if networks.localise is None or (
        "density" in networks.inputs and LOCAL not in networks.densities
    ):
        missing.add("localiser")
    if networks.features is None:
        missing |= {"features", "discriminator"}
    return [name for name in SCORERS if name not in missing]


def chosen(networks: ScoringNetworks, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The scorers asked for, or the best that a model has.

    The localiser sees density and reconstruction already: beside it, on calibration scans with
    planted lesions, neither added anything (docs/explanation/detection.md).

    Raises:
        ConfigError: E_SCORER for one that there is not, or that the model cannot have.
    """
    possible = available(networks)
    for name in asked:
        if name not in possible:
            raise ConfigError(
                "E_SCORER", name, "this model has no such scorer", f"use {', '.join(possible)}"
            )
    if asked:
        return asked
    compared = ("residual", "similarity", "features")
    best = (("localiser",), ("density",), compared, compared[:2])
    return next(names for names in best if set(names) <= set(possible))


def foreground_mask(context: ScoringContext, scoring_config: ScoringConfig) -> Mask:
    """Where maps of a scoring_config count; None where they do everywhere.

    Brighter and darker is meant beside the reconstruction, both smoothed.
    """
    if scoring_config.sign == "both" and not scoring_config.erosion:
        return None
    mask = torch.ones_like(context.volume, dtype=torch.bool)
    if scoring_config.erosion:
        depths = [depth(volume.cpu().numpy()) for volume in context.volume[:, 0]]
        mask = torch.from_numpy(np.stack(depths)[:, None]) > scoring_config.erosion
    if scoring_config.sign != "both":
        difference = smoothed(context.volume.float() - context.recon, 1.0)
        mask = mask & ((difference > 0) == (scoring_config.sign == "bright")).cpu()
    return mask.cpu()


def make_maps(context: ScoringContext, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Score maps by name, (B, 1, X, Y, Z) or one voxel a scan, on the CPU; higher is stranger."""
    return {name: SCORERS[name](context).float().cpu() for name in names}


def learn_densities(
    batches: Callable[[], Iterable[Tensor]], networks: ScoringNetworks
) -> Densities:
    """What is usual in healthy training scans.

    Args:
        batches: gives batches of them, (B, 1, X, Y, Z), from the first on at each call.
        networks: the model's; its densities are not used.
    """

    def learned(look: Callable[[Tensor], Tensor], shrinkage: float = SHRINKAGE) -> FeatureDensity:
        return FeatureDensity.fit((look(batch) for batch in batches()), shrinkage=shrinkage)

    found = {LOCAL: learned(coarse_features)}
    # Without covariances: of a hundred scans they would know each scan again.
    found[LATENT] = learned(lambda batch: networks.encode(batch)[:, :, None, None, None], 1.0)
    if (seen := networks.features) is not None:
        for number in range(len(_stages(seen(next(iter(batches()))[:1])))):
            found[stage(number)] = learned(lambda batch, n=number: _stages(seen(batch))[n])
    return found


def _stages(features: Sequence[Tensor]) -> list[Tensor]:
    """The finest stages of a discriminator that a density has room for."""
    small = [one for one in features if one[0, 0].numel() <= MOST_POSITIONS]
    return small[:_STAGES]
