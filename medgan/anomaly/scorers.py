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

from medgan.anomaly.calibration import Kept, Recipe
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
class Tools:
    """What scorers ask of a model.

    Attributes:
        encode: volumes (B, 1, X, Y, Z) to latents (B, L).
        generate: latents to volumes.
        features: the discriminator's features of volumes, finest first; None without one.
        densities: of healthy training scans: `LOCAL` features, those of the discriminator's stages
            ("stage 0" is the finest that there is room for) and the `LATENT`.
        localise: its input (B, C, X, Y, Z) to a logit for every voxel; None without a localiser.
        looks_at: what the localiser sees beside the volume, of `BESIDE`.
    """

    encode: Callable[[Tensor], Tensor]
    generate: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], list[Tensor]] | None
    densities: Densities
    localise: Callable[[Tensor], Tensor] | None = None
    looks_at: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Volumes, and what the model makes of them, made once when first asked for.

    Attributes:
        volume: (B, 1, X, Y, Z) in [-1, 1].
        tools: the model's.
    """

    volume: Float[Tensor, "B 1 X Y Z"]
    tools: Tools

    @cached_property
    def latent(self) -> Float[Tensor, "B L"]:
        """Where the encoder places them."""
        return self.tools.encode(self.volume).float()

    @cached_property
    def recon(self) -> Float[Tensor, "B 1 X Y Z"]:
        """What the generator draws from there."""
        return self.tools.generate(self.latent).float()

    @cached_property
    def features(self) -> list[Tensor]:
        """The discriminator's."""
        return self.seen(self.volume)

    def seen(self, volume: Tensor) -> list[Tensor]:
        """The discriminator's features of volumes."""
        assert self.tools.features is not None
        return self.tools.features(volume)

    @cached_property
    def distance(self) -> Float[Tensor, "B 1 X Y Z"]:
        """How unusual their local features are at their place."""
        found = self.tools.densities[LOCAL].distance(coarse_features(self.volume))
        return self.enlarged(found)

    def enlarged(self, coarse: Float[Tensor, "B C x y z"]) -> Float[Tensor, "B C X Y Z"]:
        """On the grid of the volumes."""
        return F.interpolate(coarse.float(), size=self.volume.shape[2:], mode="trilinear")


BESIDE: dict[str, Callable[[Scene], Tensor]] = {
    "density": lambda scene: scene.distance - 1,
    "recon": lambda scene: scene.recon,
}
"""What a localiser can see beside the volume itself."""


def localiser_input(scene: Scene) -> Float[Tensor, "B C X Y Z"]:
    """Volumes and what comes beside them, one channel each."""
    beside = [BESIDE[name](scene).to(scene.volume.dtype) for name in scene.tools.looks_at]
    return torch.cat([scene.volume, *beside], dim=1)


def residual(scene: Scene) -> Tensor:
    """Difference from the reconstruction."""
    return residual_map(scene.volume, scene.recon)


def similarity(scene: Scene) -> Tensor:
    """Lack of structural similarity to the reconstruction."""
    return similarity_map(scene.volume, scene.recon)


def features(scene: Scene) -> Tensor:
    """Difference from the reconstruction in the discriminator's features."""
    x, y, z = scene.volume.shape[2:]
    return feature_map(scene.features, scene.seen(scene.recon), (x, y, z))


def density(scene: Scene) -> Tensor:
    """How unusual hand-made local features are at their place."""
    return scene.distance


def discriminator(scene: Scene) -> Tensor:
    """How unusual the discriminator's features are at their place, the mean over its stages."""
    known = scene.tools.densities
    maps = [known[stage(n)].distance(found) for n, found in enumerate(_stages(scene.features))]
    return torch.stack([scene.enlarged(one) for one in maps]).mean(dim=0)


def localiser(scene: Scene) -> Tensor:
    """The localiser's logits."""
    assert scene.tools.localise is not None
    return scene.tools.localise(localiser_input(scene))


def ensemble(scene: Scene) -> Tensor:
    """Difference from the mean of several reconstructions, in units of their spread.

    Their latents lie about the encoder's. Where reconstructions differ from each other, a
    difference from them says little.

    Reference: arXiv 2412.07407 (distance from several reconstructions by their covariance), with
        a spread for each voxel in place of a covariance.
    """
    random = torch.Generator().manual_seed(0)
    recons = [scene.recon]
    for _ in range(_DRAWS):
        step = torch.randn(scene.latent.shape[1], generator=random).to(scene.latent)
        recons.append(scene.tools.generate(scene.latent + _JITTER * step).float())
    several = torch.stack(recons)
    return (scene.volume - several.mean(dim=0)).abs() / (several.std(dim=0) + _STEADY)


def refined(scene: Scene) -> Tensor:
    """Difference from the reconstruction after a few steps by which its latent is bettered."""
    recons = []
    for volume, start in zip(scene.volume.split(1), scene.latent.split(1), strict=True):
        found = fit(scene.tools.generate, volume, start, REFINEMENT)
        recons.append(scene.tools.generate(found.latent))
    return residual_map(scene.volume, torch.cat(recons).float())


def latent(scene: Scene) -> Tensor:
    """How unusual the latent is among those of training scans: one voxel a scan."""
    return scene.tools.densities[LATENT].distance(scene.latent[:, :, None, None, None])


def reencoding(scene: Scene) -> Tensor:
    """Distance from the latent to that of the reconstruction: one voxel a scan.

    Reference: Akcay et al. 2018, GANomaly, arXiv 1805.06725, eq. 5.
    """
    again = scene.tools.encode(scene.recon).float()
    return (scene.latent - again).square().mean(dim=1).sqrt()[:, None, None, None, None]


SCORERS: dict[str, Callable[[Scene], Tensor]] = {
    scorer.__name__: scorer
    for scorer in (
        *(residual, similarity, features, density, discriminator, localiser),
        *(ensemble, refined, latent, reencoding),
    )
}


def stage(number: int) -> str:
    """The name of the density of a stage's features."""
    return f"stage {number}"


def available(tools: Tools) -> list[str]:
    """The scorers that a model has all for."""
    needs = {"density": LOCAL, "discriminator": stage(0), "latent": LATENT}
    missing = {name for name, density in needs.items() if density not in tools.densities}
    if tools.localise is None or ("density" in tools.looks_at and LOCAL not in tools.densities):
        missing.add("localiser")
    if tools.features is None:
        missing |= {"features", "discriminator"}
    return [name for name in SCORERS if name not in missing]


def chosen(tools: Tools, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The scorers asked for, or the best that a model has.

    The localiser sees density and reconstruction already: beside it, on calibration scans with
    planted lesions, neither added anything (docs/explanation/detection.md).

    Raises:
        ConfigError: E_SCORER for one that there is not, or that the model cannot have.
    """
    possible = available(tools)
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


def where_kept(scene: Scene, recipe: Recipe) -> Kept:
    """Where maps of a recipe count; None where they do everywhere.

    Brighter and darker is meant beside the reconstruction, both smoothed.
    """
    if recipe.sign == "both" and not recipe.erosion:
        return None
    kept = torch.ones_like(scene.volume, dtype=torch.bool)
    if recipe.erosion:
        depths = [depth(volume.cpu().numpy()) for volume in scene.volume[:, 0]]
        kept = torch.from_numpy(np.stack(depths)[:, None]) > recipe.erosion
    if recipe.sign != "both":
        difference = smoothed(scene.volume.float() - scene.recon, 1.0)
        kept = kept & ((difference > 0) == (recipe.sign == "bright")).cpu()
    return kept.cpu()


def make_maps(scene: Scene, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Score maps by name, (B, 1, X, Y, Z) or one voxel a scan, on the CPU; higher is stranger."""
    return {name: SCORERS[name](scene).float().cpu() for name in names}


def learn_densities(batches: Callable[[], Iterable[Tensor]], tools: Tools) -> Densities:
    """What is usual in healthy training scans.

    Args:
        batches: gives batches of them, (B, 1, X, Y, Z), from the first on at each call.
        tools: the model's; its densities are not used.
    """

    def learned(look: Callable[[Tensor], Tensor], shrinkage: float = SHRINKAGE) -> FeatureDensity:
        return FeatureDensity.fit((look(batch) for batch in batches()), shrinkage=shrinkage)

    found = {LOCAL: learned(coarse_features)}
    # Without covariances: of a hundred scans they would know each scan again.
    found[LATENT] = learned(lambda batch: tools.encode(batch)[:, :, None, None, None], 1.0)
    if (seen := tools.features) is not None:
        for number in range(len(_stages(seen(next(iter(batches()))[:1])))):
            found[stage(number)] = learned(lambda batch, n=number: _stages(seen(batch))[n])
    return found


def _stages(features: Sequence[Tensor]) -> list[Tensor]:
    """The finest stages of a discriminator that a density has room for."""
    small = [one for one in features if one[0, 0].numel() <= MOST_POSITIONS]
    return small[:_STAGES]
