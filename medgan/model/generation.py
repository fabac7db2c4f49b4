"""Synthetic scans from latents: random ones, and those on the way between two."""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.core.errors import ConfigError
from medgan.core.volume import Volume
from medgan.data.alignment import grid_affine
from medgan.data.conditions import Value, between, check, draw, encode, understood
from medgan.data.intensities import synthetic_scale
from medgan.data.labels import decode_labels, largest_components
from medgan.model.outputs import Latent, Synthetic
from medgan.networks.channels import split_channels
from medgan.networks.latent import slerp, truncate

if TYPE_CHECKING:
    from medgan.model.model import Model

log = logging.getLogger(__name__)
TILE = 128
"""Edge of the cubes in which the full resolution of large volumes is generated."""


def draw_latent(
    model: "Model",
    seed: int,
    number: int,
    conditions: Mapping[str, Value] | None = None,
    truncation: float = 0.0,
) -> Latent:
    """A random latent and its covariates: a function of the arguments alone.

    Args:
        model: whose latents and conditions these are.
        seed: of the latents, and of conditions that are not given.
        number: of the latent.
        conditions: values by the names of the model's conditions.
        truncation: coordinates beyond this are drawn again from within it; 0 is off.

    Raises:
        ConfigError: E_CONDITION for what the model does not know.
    """
    random = torch.Generator().manual_seed(_state(seed, number))
    values = torch.randn(model.sizes.latent, generator=random)
    if truncation:
        # A generator of its own, so that the other coordinates stay as they are.
        again = torch.Generator().manual_seed(_state(seed, number, 2))
        values = truncate(values, truncation, again)
    rng = np.random.default_rng([seed, number, 1])
    covariates = draw(model.preprocessing.conditions, conditions or {}, rng)
    return Latent(values.numpy(), covariates)


def iter_generate(
    model: "Model",
    numbers: range,
    seed: int,
    smallest_component: float,
    conditions: Mapping[str, Value] | None,
    truncation: float,
) -> Iterator[Synthetic]:
    """Synthetic scans with these numbers, one by one; arguments as in `Model.generate`."""
    warn_of_unusual(model, conditions or {})
    for number in numbers:
        latent = draw_latent(model, seed, number, conditions, truncation)
        yield numbered_scan(model, latent, seed, number, smallest_component)


def numbered_scan(
    model: "Model", latent: Latent, seed: int, number: int, smallest_component: float
) -> Synthetic:
    """The synthetic scan of a latent, with the noise of that number of the seed."""
    generated = generate_channels(model, latent, noise=_state(seed, number, 3))
    return synthetic(model, generated, seed, number, latent.covariates, smallest_component)


def interpolate(
    model: "Model", start: Latent, end: Latent, count: int, smallest_component: float
) -> list[Synthetic]:
    """Synthetic scans on the way from one latent to another; as `Model.interpolate`."""
    if count < 2:
        raise ConfigError("E_VALUE", "interpolation", f"{count} frames", "ask for two or more")
    first, last = torch.from_numpy(start.values), torch.from_numpy(end.values)
    known = [
        understood(model.preprocessing.conditions, latent.covariates) for latent in (start, end)
    ]
    condition = [encoded(model, covariates) for covariates in known]
    frames = []
    for number in range(count):
        share = number / (count - 1)
        covariates = between(known[0], known[1], share)
        latent = Latent(slerp(first, last, share).numpy(), covariates)
        way = torch.lerp(condition[0], condition[1], share)
        generated = generate_channels(model, latent, way, noise=0)
        frames.append(synthetic(model, generated, None, number, covariates, smallest_component))
    return frames


@torch.inference_mode()
def generate_channels(
    model: "Model", latent: Latent, condition: Tensor | None = None, noise: int | None = None
) -> Float[Tensor, "1 C X Y Z"]:
    """Image and soft label channels of a latent, on the CPU, in [-1, 1].

    Args:
        model: whose generator is used.
        latent: with covariates.
        condition: (D,) to use in place of the latent's covariates.
        noise: seed of the noise, where that is a condition; None adds none.
    """
    values = torch.from_numpy(latent.values)[None]
    condition = encoded(model, latent.covariates) if condition is None else condition
    white = None
    if noise is not None:
        random = torch.Generator().manual_seed(noise)
        white = model.networks.generator.white_noise(1, random)
    return run_generator(model, values, condition, white).cpu()


def run_generator(
    model: "Model", values: Tensor, condition: Tensor, white: Tensor | None = None
) -> Tensor:
    """The generator on latents (B, L) and one condition (D,); in tiles unless for a gradient."""
    condition = condition.to(model.device).expand(len(values), -1)
    tile = 0 if torch.is_grad_enabled() else TILE
    return model.networks.generator(values.to(model.device), condition, tile, white)


def encoded(model: "Model", covariates: Mapping[str, Value]) -> Tensor:
    """Covariates as the generator takes them, (D,)."""
    condition = torch.from_numpy(encode(model.preprocessing.conditions, covariates))
    return model.networks.seen(condition[None].to(model.device))[0].cpu()


def warn_of_unusual(model: "Model", covariates: Mapping[str, Value]) -> None:
    """Warns of covariates outside those of the training scans.

    Raises:
        ConfigError: E_CONDITION for what the model does not know.
    """
    for remark in check(model.preprocessing.conditions, covariates):
        log.warning("%s: the model has to guess", remark)


def synthetic(
    model: "Model",
    generated: Float[Tensor, "1 C X Y Z"],
    seed: int | None,
    number: int,
    covariates: dict[str, Value],
    smallest_component: float,
) -> Synthetic:
    """Generated channels as a scan: whole grey values, and a label map without small components."""
    grid, labels = model.preprocessing, model.preprocessing.labels
    affine = grid_affine(grid.shape, grid.spacing)
    count = len(model.preprocessing.channels)
    images, soft_labels = split_channels(generated[0], count)
    label = None
    if labels:
        values = decode_labels(soft_labels, labels, model.label_offset).numpy()
        values = largest_components(values, labels, smallest_component)
        label = Volume(values.astype(np.uint16), affine)
    volumes = {
        name: Volume(_grey_values(model, name, channel), affine)
        for name, channel in zip(model.preprocessing.channels, images, strict=True)
    }
    first = volumes[model.preprocessing.channels[0]]
    return Synthetic(first, label, seed, number, covariates, volumes)


def _grey_values(model: "Model", name: str, channel: Float[Tensor, "X Y Z"]) -> np.ndarray:
    scale = synthetic_scale(model.preprocessing, name)
    return np.round(scale.back(channel.numpy())).astype(np.int16)


def _state(*numbers: int) -> int:
    """A seed for torch that is a function of the numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
