"""Scorers: functions from a scan and the model's outputs for it to a score map.

Scorers of the latent alone give one value a scan: their map is a single voxel. Calibration turns
raw maps into healthy standard deviations.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from medgan.anomaly.context import (
    LATENT,
    LOCAL,
    Densities,
    ScoringContext,
    ScoringNetworks,
    local_density,
    network_input,
)
from medgan.anomaly.density import SHRINKAGE, FeatureDensity
from medgan.anomaly.features import MOST_POSITIONS, smoothed
from medgan.anomaly.maps import feature_map, residual_map, similarity_map
from medgan.core.errors import ConfigError
from medgan.networks.latent import fit

_SMOOTHING = 0.7
"""Standard deviation in voxels of the blur of signed deviations: noise alone is no lesion."""
_OF_RECONSTRUCTIONS = {
    "residual", "similarity", "features", "ensemble", "refined", "latent", "reencoding",
}  # fmt: skip
"""Scorers that need generator and encoder."""
_STAGES = 2
"""Number of discriminator stages with a density of their features."""
REFINEMENT = 10
"""Optimisation steps of a latent."""
_ENSEMBLE, _LATENT_NOISE = 4, 0.3
"""Number of further reconstructions, and the standard deviation of noise on their latents."""
_SPREAD_FLOOR = 0.05
"""Added to the standard deviation of reconstructions, in units of [-1, 1]."""


def residual(context: ScoringContext) -> Tensor:
    """Absolute difference from the reconstruction."""
    return residual_map(context.volume, context.recon)


def similarity(context: ScoringContext) -> Tensor:
    """Structural dissimilarity to the reconstruction."""
    return similarity_map(context.volume, context.recon)


def features(context: ScoringContext) -> Tensor:
    """Distance from the reconstruction in the discriminator's features."""
    x, y, z = context.volume.shape[2:]
    return feature_map(context.features, context.features_of(context.recon), (x, y, z))


def density(context: ScoringContext) -> Tensor:
    """Mahalanobis distance of hand-made local features."""
    return context.distance


def discriminator(context: ScoringContext) -> Tensor:
    """Mahalanobis distance of the discriminator's features, the mean over its stages."""
    densities = context.networks.densities
    maps = [
        densities[stage(n)].distance(found) for n, found in enumerate(_stages(context.features))
    ]
    return torch.stack([context.enlarged(one) for one in maps]).mean(dim=0)


def localiser(context: ScoringContext) -> Tensor:
    """The localiser's logits."""
    assert context.networks.localise is not None
    return context.networks.localise(network_input(context, context.networks.inputs))


def darker(context: ScoringContext) -> Tensor:
    """How much darker than the mean healthy scan, in healthy standard deviations; smoothed."""
    return -brighter(context)


def brighter(context: ScoringContext) -> Tensor:
    """How much brighter than the mean healthy scan, in healthy standard deviations; smoothed."""
    return smoothed(context.deviation.mean(dim=1, keepdim=True), _SMOOTHING)


def restoration(context: ScoringContext) -> Tensor:
    """Absolute difference from the restored volume."""
    return residual_map(context.volume, context.restored)


def ensemble(context: ScoringContext) -> Tensor:
    """Difference from the mean of several reconstructions, in units of their standard deviation.

    Reconstructions come from the encoder's latent with added noise.

    Reference: arXiv 2412.07407 (distance from several reconstructions by their covariance), with
        a variance for each voxel in place of a covariance.
    """
    random = torch.Generator().manual_seed(0)
    recons = [context.recon]
    for _ in range(_ENSEMBLE):
        step = torch.randn(context.latent.shape[1], generator=random, device="cpu")
        recons.append(context.generated(context.latent + _LATENT_NOISE * step.to(context.latent)))
    several = torch.stack(recons)
    deviation = (context.volume - several.mean(dim=0)).abs()
    return (deviation / (several.std(dim=0) + _SPREAD_FLOOR)).mean(dim=1, keepdim=True)


def refined(context: ScoringContext) -> Tensor:
    """Difference from the reconstruction after a few optimisation steps of its latent."""
    recons = []
    for volume, start in zip(context.volume.split(1), context.latent.split(1), strict=True):
        found = fit(context.generated, volume, start, REFINEMENT)
        recons.append(context.generated(found.latent))
    return residual_map(context.volume, torch.cat(recons))


def latent(context: ScoringContext) -> Tensor:
    """Mahalanobis distance of the latent: one voxel a scan."""
    return context.networks.densities[LATENT].distance(context.latent[:, :, None, None, None])


def reencoding(context: ScoringContext) -> Tensor:
    """Distance between the latents of a scan and of its reconstruction: one voxel a scan.

    Reference: Akcay et al. 2018, GANomaly, arXiv 1805.06725, eq. 5.
    """
    again = ScoringContext(context.recon, context.networks).latent
    return (context.latent - again).square().mean(dim=1).sqrt()[:, None, None, None, None]


SCORERS: dict[str, Callable[[ScoringContext], Tensor]] = {
    scorer.__name__: scorer
    for scorer in (
        *(residual, similarity, features, density, discriminator, localiser, restoration),
        *(darker, brighter),
        *(ensemble, refined, latent, reencoding),
    )
}


def stage(number: int) -> str:
    """Name of the density of a discriminator stage."""
    return f"stage {number}"


def available(networks: ScoringNetworks) -> list[str]:
    """Scorers that a model has everything for."""
    needs = {"density": LOCAL, "discriminator": stage(0), "latent": LATENT}
    missing = {name for name, density in needs.items() if density not in networks.densities}
    for name, network, inputs in (
        ("localiser", networks.localise, networks.inputs),
        ("restoration", networks.restore, networks.restorer_inputs),
    ):
        unmet = ("density" in inputs and LOCAL not in networks.densities) or (
            "deviation" in inputs and networks.healthy is None
        )
        if network is None or unmet:
            missing.add(name)
    if networks.healthy is None:
        missing |= {"darker", "brighter"}
    if networks.generate is None:
        missing |= _OF_RECONSTRUCTIONS
    if networks.features is None:
        missing |= {"features", "discriminator"}
    return [name for name in SCORERS if name not in missing]


def chosen(networks: ScoringNetworks, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The scorers asked for, or the default of a model.

    The default is the localiser where there is one, or the restoration. Density and reconstruction
    are inputs of these, and adding their scores did not help (docs/explanation/detection.md).

    Raises:
        ConfigError: E_SCORER for a scorer that is unknown or not available in this model, and for a
            model without any.
    """
    possible = available(networks)
    if not possible:
        raise ConfigError(
            "E_SCORER", "the model", "has no scorers: it makes one image of another",
            "use a model that generates, restores or scores scans",
        )  # fmt: skip
    for name in asked:
        if name not in possible:
            raise ConfigError(
                "E_SCORER", name, "is no scorer of this model", f"use {', '.join(possible)}"
            )
    if asked:
        return asked
    compared = ("residual", "similarity", "features")
    best = (("localiser",), ("restoration",), ("density",), compared, compared[:2])
    return next(names for names in best if set(names) <= set(possible))


def make_maps(context: ScoringContext, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Score maps by name, (B, 1, X, Y, Z) or one voxel a scan, on the CPU."""
    return {name: SCORERS[name](context).float().cpu() for name in names}


def learn_densities(
    batches: Callable[[], Iterable[Tensor]], networks: ScoringNetworks
) -> Densities:
    """Estimates the densities of healthy training scans.

    Args:
        batches: returns an iterator over batches, (B, C, X, Y, Z), from the first at each call.
        networks: the model's; its densities are not used.
    """

    def fitted(of: Callable[[Tensor], Tensor], shrinkage: float = SHRINKAGE) -> FeatureDensity:
        return FeatureDensity.fit((of(batch) for batch in batches()), shrinkage=shrinkage)

    found = {LOCAL: local_density(batches)}
    if (encode := networks.encode) is not None:
        # Without covariances: estimated from a hundred scans, they would overfit to each of them.
        found[LATENT] = fitted(lambda batch: encode(batch)[:, :, None, None, None], 1.0)
    if (features_of := networks.features) is not None:
        for number in range(len(_stages(features_of(next(iter(batches()))[:1])))):
            found[stage(number)] = fitted(lambda batch, n=number: _stages(features_of(batch))[n])
    return found


def _stages(features: Sequence[Tensor]) -> list[Tensor]:
    """The finest stages of a discriminator that are small enough for a density."""
    small = [one for one in features if one[0, 0].numel() <= MOST_POSITIONS]
    return small[:_STAGES]
