"""A model without generator and restorer: aligned healthy scans, and what scorers learn of them."""

import logging
from pathlib import Path

from medgan.core.config import Config
from medgan.core.errors import ConfigError
from medgan.data.manifest import Manifest
from medgan.data.reading import ReadScans
from medgan.data.template import aligned_plan
from medgan.model.model import Model
from medgan.networks.device import choose_device
from medgan.networks.gan import Networks
from medgan.training.start import start_plan

log = logging.getLogger(__name__)


def bare_model(
    config: Config,
    manifest: Manifest,
    out: Path,
    facts: dict[str, str],
    scans: ReadScans,
    start: Model | None = None,
) -> Model:
    """A model that knows where its scans lie; densities, localiser and calibration come later.

    Args:
        config: all settings.
        manifest: with splits.
        out: receives the cache.
        facts: versions, for the card.
        scans: those that are in memory since they were checked.
        start: model whose grid and template are taken over.

    Raises:
        ConfigError: E_SET where scans are not aligned: without networks, only the mean of aligned
            scans says what a healthy one looks like.
        ModelError: E_START when the model to start from does not fit.
    """
    if config.data.align == "none":
        raise ConfigError(
            "E_SET", "data.align", "a model without generator and restorer needs aligned scans",
            "set data.align to affine or deformable",
        )  # fmt: skip
    cases = manifest.split("train")
    if start is None:
        preprocessing = aligned_plan(config.data, cases, out / "cache", scans.read)
    else:
        preprocessing = start_plan(config, cases, start)
    record = {
        "training_scans": len(cases),
        "data_digest": manifest.digest,
        "training_digest": manifest.training_digest,
        **({"data_licence": manifest.licence} if manifest.licence else {}),
        **facts,
        **({"started_from": start.digest} if start is not None else {}),
    }
    device = choose_device(config.train.device)
    return Model(Networks(), preprocessing, config.model, record, device=device)
