"""GAN inversion: the latent from which the generator reproduces a scan, and edits of it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.core.errors import ConfigError, require_one_channel
from medgan.core.volume import Volume
from medgan.data.conditions import Value, understood
from medgan.data.prepare import PreparedScan
from medgan.model.generation import encoded, generate_channels, run_generator, warn_of_unusual
from medgan.model.hull import Hull, remark_on
from medgan.model.outputs import Edit, Inversion, Latent
from medgan.networks.channels import image_channels
from medgan.networks.latent import Fit, fit

if TYPE_CHECKING:
    from medgan.model.model import Model

log = logging.getLogger(__name__)
STEPS = 100
"""Steps of an inversion."""
_BATCH = 8
_MOST_BATCHES = 64
"""Of training scans: five hundred are enough for a covariance."""


def batch_of(model: "Model", scan: PreparedScan) -> Float[Tensor, "1 C X Y Z"]:
    """A prepared scan on the model's device, as its networks take it."""
    return scan.volume[None].to(model.device, memory_format=torch.channels_last_3d)


def encode(model: "Model", scan: PreparedScan) -> Float[Tensor, " L"]:
    """The encoder's latent of a scan, on the CPU."""
    return encode_volumes(model, scan.volume[None])[0]


@torch.inference_mode()
def encode_volumes(model: "Model", volumes: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B L"]:
    """The encoder's latents of volumes on the model's grid, in [-1, 1], on the CPU."""
    parts = []
    for part in volumes.split(_BATCH):
        part = part.to(model.device, memory_format=torch.channels_last_3d)
        parts.append(model.networks.encoder(part).float().cpu())
    return torch.cat(parts)


def reconstruct(model: "Model", scan: PreparedScan, latent: Latent | None = None) -> list[Volume]:
    """Every channel generated from a latent, in the scan's own grid and intensities.

    Args:
        model: whose generator is used.
        scan: in whose grid it is given back.
        latent: the encoder's unless given.
    """
    latent = Latent(encode(model, scan).numpy()) if latent is None else latent
    return in_scanner_units(scan, generate_channels(model, latent)[0])


def in_scanner_units(scan: PreparedScan, channels: Float[Tensor, "C X Y Z"]) -> list[Volume]:
    """Image channels of a scan from [-1, 1] to its own grid and intensities."""
    return [
        scan.in_scanner_units(channels[number].cpu().numpy(), number)
        for number in range(len(scan.source))
    ]


def invert(
    model: "Model", scan: PreparedScan, steps: int, covariates: Mapping[str, Value]
) -> Inversion:
    """Optimises the encoder's latent of a scan; as `Model.invert`."""
    known = understood(model.preprocessing.conditions, covariates)
    start, condition = encode(model, scan)[None].to(model.device), encoded(model, known)
    count = len(scan.source)
    found: Fit = fit(
        lambda values: image_channels(run_generator(model, values, condition), count),
        batch_of(model, scan), start, steps,
    )  # fmt: skip
    first, last = (Latent(z[0].cpu().numpy(), known) for z in (start, found.latent))
    before, after = (reconstruct(model, scan, latent) for latent in (first, last))
    recons = dict(zip(model.preprocessing.channels, after, strict=True))
    p_values, remarks = remarks_on_scans(model, scan.volume[None], ["the scan"])
    return Inversion(
        last, before[0], after[0], found.error_before, found.error_after, recons, p_values[0],
        remarks,
    )  # fmt: skip


def edit(
    model: "Model",
    scan: PreparedScan,
    changes: Mapping[str, Value],
    covariates: Mapping[str, Value],
    steps: int,
) -> Edit:
    """A scan with other covariates; as `Model.edit`."""
    known = known_before_change(model, "an edit", changes, covariates)
    changed = understood(model.preprocessing.conditions, {**known, **changes})
    inversion = invert(model, scan, steps, known)
    before, after = (
        generate_channels(model, Latent(inversion.latent.values, covariates))[0]
        for covariates in (known, changed)
    )
    remark = remark_on([inversion.latent.values])
    if remark:
        log.warning("%s: the model has to guess", remark)
    edited, difference = with_difference(scan, before, after)
    generated = in_scanner_units(scan, after)[0]
    volume = edited_volume(scan, before, after)
    p_values, unlike = remarks_on_scans(model, volume[None], ["the edited scan"], inversion)
    remarks = (*([remark] if remark else []), *unlike)
    return Edit(edited, difference, generated, inversion, changed, p_values[0], remarks)


def edited_volume(
    scan: PreparedScan, before: Float[Tensor, "C X Y Z"], after: Float[Tensor, "C X Y Z"]
) -> Float[Tensor, "1 X Y Z"]:
    """A scan of one channel plus a difference, on the model's grid."""
    return (scan.volume.cpu() + after[:1] - before[:1]).clamp(-1, 1)


def remarks_on_scans(
    model: "Model",
    volumes: Float[Tensor, "B C X Y Z"],
    names: Sequence[str],
    start: Inversion | None = None,
) -> tuple[list[float | None], tuple[str, ...]]:
    """How like the training scans volumes are to the encoder, and what to say if one is not.

    The latent itself is not asked: it was optimised, and no latent of a training scan was.

    Args:
        model: with a hull, or without one.
        volumes: scans on its grid.
        names: of them.
        start: of what they were made, whose remarks hold for them, too.

    Returns:
        P-values, None of a model that has no hull, and remarks.
    """
    if model.hull is None:
        return [None] * len(volumes), ()
    p_values = model.hull.p_values(encode_volumes(model, volumes).numpy())
    if start is not None and start.remarks:
        return list(p_values), start.remarks
    remark = model.hull.remark_on(p_values, names)
    if remark:
        log.warning("%s", remark)
    return list(p_values), (remark,) if remark else ()


def learn_hull(model: "Model", training: Iterable[Tensor], held_out: Iterable[Tensor]) -> Hull:
    """Where the encoder's latents lie, from batches (B, C, X, Y, Z) of scans."""
    sides = (
        torch.cat([encode_volumes(model, part) for part in side]).numpy()
        for side in (islice(training, _MOST_BATCHES), held_out)
    )
    return Hull.learn(*sides)


def known_before_change(
    model: "Model", what: str, changes: Mapping[str, Value], covariates: Mapping[str, Value]
) -> dict[str, Value]:
    """What the model makes of the covariates of a scan whose conditions are to change.

    Warns of what lies outside the training scans, and of a value that is unknown before it changes.

    Args:
        model: with conditions.
        what: is asked for, as an error about channels names it.
        changes: values by the names of conditions.
        covariates: of the scan.

    Raises:
        ConfigError: E_CHANNEL for several image channels; E_CONDITION without conditions, or for
            what the model does not know.
    """
    require_one_channel(what, model.preprocessing.channels)
    learned = model.preprocessing.conditions
    if not learned:
        raise ConfigError(
            "E_CONDITION", "the model", "has no conditions to edit along",
            "train one with data.conditions",
        )  # fmt: skip
    warn_of_unusual(model, changes)
    warn_of_unusual(model, covariates)
    known = understood(learned, covariates)
    changed = understood(learned, {**known, **changes})
    for name in changes:
        if known[name] is None and changed[name] is not None:
            log.warning("%s of the scan is unknown: the edit starts from any; give it", name)
    return known


def with_difference(
    scan: PreparedScan, before: Float[Tensor, "C X Y Z"], after: Float[Tensor, "C X Y Z"]
) -> tuple[Volume, Volume]:
    """A scan plus the difference of two generated volumes, and the difference.

    Both are in the scan's own grid and intensities, and the sum is clipped to the scan's own range.

    Args:
        scan: of one channel.
        before: generated with the scan's own covariates, in [-1, 1].
        after: generated with the changed ones.
    """
    old, new = (scan.intensities(channels[0].numpy()) for channels in (before, after))
    difference, original = scan.back(new - old), scan.source[0]
    edited = np.clip(original.data + difference.data, original.data.min(), original.data.max())
    return original.like(edited), difference
