"""Anomaly scores of a model: its calibration on healthy scans, and the scores of new ones."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.calibration import Calibration, ScoringConfig, calibrate
from medgan.anomaly.choice import CANDIDATES, Choice, Maps
from medgan.anomaly.comparability import REASONS, ScanStatistics, reference_statistics
from medgan.anomaly.context import Densities, ScoringContext, ScoringNetworks
from medgan.anomaly.healthy import healthy_of
from medgan.anomaly.place import place_in_brain, place_in_scan
from medgan.anomaly.regions import find_regions
from medgan.anomaly.scorers import available, chosen, learn_densities, make_maps
from medgan.core.errors import DataError
from medgan.core.template import Template
from medgan.core.volume import Volume
from medgan.data.checks import same_grid
from medgan.data.conditions import Value
from medgan.data.mni import mni_affine
from medgan.data.prepare import PreparedScan
from medgan.model.generation import encoded, run_generator
from medgan.model.inversion import batch_of
from medgan.model.outputs import ScanScore
from medgan.model.scans import Scan
from medgan.networks.channels import image_channels

if TYPE_CHECKING:
    from medgan.model.model import Model

Choose = Callable[[Maps, Calibration], Choice]
"""From the maps of all scorers that are worth it, and their calibration, to those that are used."""


def scoring_networks(model: "Model") -> ScoringNetworks:
    """The functions and densities of a model that scorers use."""
    networks, unknown = model.networks, encoded(model, {})
    localiser, restorer = networks.localiser, networks.restorer
    count = len(model.preprocessing.channels)
    # A discriminator of translations sees other channels than a scan has.
    judge = networks.discriminator if networks.translator is None else None

    def generate(latent: Tensor) -> Tensor:
        return image_channels(run_generator(model, latent, unknown), count)

    return ScoringNetworks(
        networks.encoder if networks.synthesises else None,
        generate if networks.synthesises else None,
        None if judge is None else judge.features,
        model.densities,
        localiser.located if localiser is not None else None,
        localiser.inputs if localiser is not None else (),
        restorer,
        restorer.inputs if restorer is not None else (),
        healthy_of(model.preprocessing, model.device),
    )


@torch.inference_mode()
def restore(model: "Model", scan: PreparedScan) -> list[Volume]:
    """The healthy counterpart of a scan; as `Model.restore`."""
    _ = model.networks.needed_restorer
    context = ScoringContext(batch_of(model, scan), scoring_networks(model))
    return _counterparts(scan, context.restored[0])


@torch.inference_mode()
def score(
    model: "Model",
    scan: PreparedScan,
    label_map: Volume | None,
    smallest_mm3: float,
    covariates: Mapping[str, Value],
) -> ScanScore:
    """Score, map and regions of a scan; as `Model.score`."""
    calibration = model.needed_calibration
    if label_map is not None and not same_grid(label_map, scan.source[0]):
        raise DataError(
            "E_LABEL_GRID", "the scan", "its label map lies on another grid",
            "give one on the scan's grid",
        )  # fmt: skip
    scan, gain = rescaled(model, scan)
    context = ScoringContext(batch_of(model, scan), scoring_networks(model))
    scores, score_map, parts = calibration.score(
        make_maps(context, calibration.scoring_config.scorers),
        None if scan.unseen is None else torch.from_numpy(scan.unseen),
    )
    value, reasons = calibration.adjusted(float(scores[0]), covariates), ()
    if calibration.reference is not None:
        reasons = calibration.reference.reasons(_statistics(model, scan, context))
    native = scan.back(score_map[0, 0].numpy())
    recons = _counterparts(scan, context.counterpart[0])
    numbers, regions = find_regions(
        native.data, calibration.level, scan.affine, smallest_mm3,
        label_map=None if label_map is None else np.rint(label_map.data).astype(np.int64),
        compared=(scan.source[0].data, recons[0].data),
    )  # fmt: skip
    adjustment = calibration.adjustment
    return ScanScore(
        value,
        None if reasons else calibration.p_value(value),
        {name: float(part[0]) for name, part in parts.items()},
        native,
        recons[0],
        tuple(
            replace(one, place=_place(model, scan, one.peak_mm, "alignment" not in reasons))
            for one in regions
        ),
        native.like(numbers),
        tuple(REASONS[name] for name in reasons),
        gain,
        dict(zip(model.preprocessing.channels, recons, strict=True)),
        calibration.adjusts,
        () if adjustment is None else tuple(adjustment.remarks(covariates)),
    )


def _counterparts(scan: PreparedScan, channels: Tensor) -> list[Volume]:
    """Healthy channels (C, X, Y, Z) in [-1, 1] in the scan's own grid and intensities."""
    return [scan.counterpart(one, number) for number, one in enumerate(channels.cpu().numpy())]


def _place(
    model: "Model", scan: PreparedScan, position: tuple[float, float, float], aligned: bool
) -> str:
    """A position of a scan in words: in the brain where the template is one, else in the scan."""
    grid = model.preprocessing
    index = scan.on_template(position) if aligned else None
    to_mni = None if index is None else mni_of(grid.known_template, grid.spacing)
    if index is None or to_mni is None:
        return place_in_scan(position, scan.affine, scan.shape)
    return place_in_brain((to_mni @ [*index, 1.0])[:3].tolist())


@cache
def mni_of(template: Template, spacing: tuple[float, float, float]) -> np.ndarray | None:
    """Voxel indices of a template to mm in MNI152 space, found once; None where it is no brain."""
    return mni_affine(template.mean[0], spacing)


def rescaled(model: "Model", scan: PreparedScan) -> tuple[PreparedScan, float]:
    """The scan with the contrast of the calibration scans, and the gain that took.

    CT, scans of several channels and those that were aligned, whose intensities are those of the
    template, are left as they are.
    """
    known = model.calibration and model.calibration.reference
    standardised = scan.agreement is not None
    if not known or standardised or model.preprocessing.holds_ct or len(scan.source) > 1:
        return scan, 1.0
    change = known.rescaling(scan.volume[0].numpy())
    if change is None:
        return scan, 1.0
    gain, offset = change
    return scan.stretched(gain, offset), gain


@torch.inference_mode()
def calibration_of(
    model: "Model",
    scans: Iterable[Scan],
    scoring_config: ScoringConfig,
    progress: Callable[[int, int], None],
    count: int,
    covariates: Iterable[Mapping[str, Value]],
    choose: Choose | None = None,
) -> Calibration:
    """The calibration of a model on healthy scans; as `Model.calibrate`."""
    networks = scoring_networks(model)
    asked = scoring_config.scorers
    if not asked and model.calibration is not None:  # on a new site the choice of scorers stays
        asked = model.calibration.scoring_config.scorers
    names = chosen(networks, asked)
    if choose and not asked:
        names = tuple(name for name in CANDIDATES if name in available(networks)) or names
    collected: dict[str, list[Tensor]] = {}
    unseen: list[np.ndarray | None] = []
    statistics: list[ScanStatistics] = []
    for number, scan in enumerate(scans, start=1):
        prepared = model.prepare(scan)
        context = ScoringContext(batch_of(model, prepared), networks)
        statistics.append(_statistics(model, prepared, context))
        unseen.append(prepared.unseen)
        for name, score_map in make_maps(context, names).items():
            collected.setdefault(name, []).append(score_map)
        progress(number, count or number)
    maps = {name: _filled(torch.cat(parts), unseen) for name, parts in collected.items()}
    maps = maps or {"none": torch.zeros(0, 1, 1, 1, 1, device="cpu")}
    known = list(covariates)
    if choose and not asked and len(maps) > 1:
        found = calibrate(maps, replace(scoring_config, scorers=names))

        def maps_of(volumes: Tensor) -> dict[str, Tensor]:
            return make_maps(ScoringContext(volumes.to(model.device), networks), names)

        choice = choose(maps_of, found)
        model.facts["scorers_chosen"] = choice.text()
        names = choice.scorers
        maps = {name: maps[name] for name in names}
    found = calibrate(maps, replace(scoring_config, scorers=names), known)
    return replace(found, reference=reference_statistics(statistics))


def _filled(maps: Tensor, unseen: Sequence[np.ndarray | None]) -> Tensor:
    """Raw maps (N, 1, X, Y, Z): what a scan does not show takes the mean of those that show it."""
    masks = [np.zeros(maps.shape[2:], bool) if one is None else one for one in unseen]
    if maps[0].numel() == 1 or not np.any(masks):
        return maps
    hidden = torch.from_numpy(np.stack(masks))[:, None]
    shown = (~hidden).sum(dim=0).clamp(min=1)
    mean = maps.masked_fill(hidden, 0).sum(dim=0) / shown
    return torch.where(hidden, mean, maps)


@torch.inference_mode()
def densities_of(model: "Model", batches: Callable[[], Iterable[Tensor]]) -> Densities:
    """Feature densities of training scans; as `Model.learn_densities`."""
    return learn_densities(
        lambda: (batch.to(model.device) for batch in batches()), scoring_networks(model)
    )


def _statistics(model: "Model", scan: PreparedScan, context: ScoringContext) -> ScanStatistics:
    """What is compared with other scans: of the first channel, the error of all."""
    volume, recon = (v[0].float().cpu().numpy() for v in (context.volume, context.counterpart))
    error = float(np.abs(volume - recon).mean())
    latent = np.zeros(0) if context.networks.encode is None else context.latent[0].cpu().numpy()
    unseen = 0.0
    if scan.unseen is not None:
        unseen = float(scan.unseen[model.preprocessing.known_template.inside].mean())
    return ScanStatistics(volume[0], scan.field_of_view, latent, error, scan.agreement, unseen)
