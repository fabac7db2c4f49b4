"""Directions of a model's latent that follow columns of the table of its training scans."""

from collections.abc import Sequence
from pathlib import Path

from medgan.core.errors import ConfigError
from medgan.data.conditions import covariate_of
from medgan.model.covariate_direction import CovariateDirection, covariate_direction
from medgan.model.inversion import encode_volumes
from medgan.model.model import Model
from medgan.workflows.training_scans import training_scans


def follow(model: Model, names: Sequence[str], manifest: Path) -> list[CovariateDirection]:
    """The direction of each covariate, from the encoder's latents of the training scans.

    Args:
        model: whose latents these are.
        names: of covariates, whether the model is conditioned on them or not.
        manifest: of the training.

    Raises:
        ConfigError: E_NO_DATA without training scans; E_CONDITION.
    """
    scans = training_scans(model, manifest)
    if scans is None:
        raise ConfigError(
            "E_NO_DATA", "the training scans", "are not beside the model",
            "use the model in the folder of its training, or name the training's manifest.json "
            "with --data",
        )  # fmt: skip
    latents = encode_volumes(model, scans.volumes).numpy()
    subjects = [case.subject for case in scans.cases]
    return [
        covariate_direction(name, latents, [covariate_of(c, name) for c in scans.cases], subjects)
        for name in names
    ]
