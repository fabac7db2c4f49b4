"""Slices through the tumours of translated patients, from the worst to the best."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgan.evaluation.translation.metrics import TranslationMetrics
from medgan.reporting.slices import ColourScale, aspect_of
from medgan.reporting.translation_examples import Panel, TranslationExample, plot_translations
from medgan.studies.translation.report import ONE, OWN
from medgan.studies.translation.scans import Channels
from medgan.studies.translation.translated import Translated

SHOWN = 12
"""Patients in a picture."""
_GREY = {"HU": (-250.0, 350.0), "SUV": (0.0, 8.0)}
"""Values shown as black and as white; MRI from 0 to 1000."""
_DIFFERENCE = {"HU": 300.0, "SUV": 4.0}
_FLOOR = "regression"


def write_pictures(
    path: Path,
    channel: str,
    channels: Channels,
    patients: Sequence[Translated],
    metrics: Sequence[TranslationMetrics],
) -> None:
    """Writes a PNG: sources, real image, the model's, the regression's, error and spread.

    Args:
        path: the PNG.
        channel: the target.
        channels: all of them.
        patients: of the test split.
        metrics: of the model, one a patient.
    """
    order = np.argsort([-one.mae for one in metrics], kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]
    examples = [_example(patients[n], metrics[n], channel, channels) for n in picked]
    plot_translations(path, examples)


def _example(
    one: Translated, found: TranslationMetrics, channel: str, channels: Channels
) -> TranslationExample:
    scan, unit = one.scan, channels.unit(channel)
    region = scan.region(channel)
    best = region if scan.tumour is None or not (region & scan.tumour).any() else scan.tumour
    at = int((best & region).sum(axis=(0, 1)).argmax())
    grey = ColourScale(*_GREY.get(unit, (0.0, 1000.0)))
    most = _DIFFERENCE.get(unit, 400.0)
    drawn = one.drawn[channel]
    error = np.where(region, np.abs(drawn[OWN] - scan.target[channel]), 0)
    shown = [
        (f"given: {name}", image, ColourScale(*_GREY.get(channels.unit(name), (0.0, 1000.0))))
        for name, image in scan.source.items()
    ]
    shown.insert(1, (f"real: {channel}", scan.target[channel], grey))
    shown += [(name, drawn[name], grey) for name in (OWN, OWN + ONE, _FLOOR) if name in drawn]
    shown.append((f"error, to {most:g} {unit}", error, ColourScale(0.0, most, "inferno")))
    if channel in one.spread:
        spread = np.where(region, one.spread[channel], 0)
        shown.append((f"spread, to {most / 2:g}", spread, ColourScale(0.0, most / 2, "inferno")))
    return TranslationExample(
        f"{scan.case}: {found.mae:.3g} {unit}",
        [Panel(name, np.nan_to_num(image[:, :, at]), scale) for name, image, scale in shown],
        None if scan.tumour is None else scan.tumour[:, :, at], aspect_of(2, scan.spacing),
    )  # fmt: skip
