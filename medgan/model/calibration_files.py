"""A calibration as JSON and tensors, and back."""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.adjustment import Adjustment, Covariate
from medgan.anomaly.calibration import Calibration, ScoringConfig
from medgan.anomaly.comparability import ReferenceStatistics
from medgan.anomaly.statistics import MapStatistics

log = logging.getLogger(__name__)
_ARRAYS = ("coefficients", "products")
_REFERENCE = ("quantiles", "mean", "field_of_view", "latent")


def calibration_to_files(
    calibration: Calibration,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """JSON values, and tensors by name."""
    values = {
        "scoring_config": vars(calibration.scoring_config),
        "scans": len(calibration.scores),
        "centres": calibration.centres,
        "scales": calibration.scales,
        "scores": list(calibration.scores),
        "level": calibration.level,
    }
    if calibration.adjustment is not None:
        values["adjustment"] = _adjustment_values(calibration.adjustment)
    maps = {}
    if calibration.reference is not None:
        values["limits"] = dict(calibration.reference.limits)
        values["gain"] = calibration.reference.gain
        for name in _REFERENCE:
            array = np.asarray(getattr(calibration.reference, name), np.float32)
            maps[f"reference.{name}"] = torch.from_numpy(array)
    for name, statistics in calibration.statistics.items():
        maps[f"{name}.mean"] = statistics.mean.contiguous()
        maps[f"{name}.spread"] = statistics.spread.contiguous()
    return values, maps


def calibration_from_files(values: dict[str, Any], maps: dict[str, Tensor]) -> Calibration | None:
    """What `calibration_to_files` gave; None for a calibration of an older medgan."""
    if "scoring_config" not in values:
        log.warning("the model's calibration is of an older medgan: run medgan calibrate")
        return None
    statistics = {
        name: MapStatistics(maps[f"{name}.mean"].float(), maps[f"{name}.spread"].float())
        for name in values["centres"]
    }
    known = None
    if "limits" in values:
        arrays = {name: maps[f"reference.{name}"].float().numpy() for name in _REFERENCE}
        known = ReferenceStatistics(**arrays, limits=values["limits"], gain=values["gain"])
    scoring_config = ScoringConfig(
        **{**values["scoring_config"], "scorers": tuple(values["scoring_config"]["scorers"])}
    )
    return Calibration(
        scoring_config, statistics, values["centres"], values["scales"], tuple(values["scores"]),
        values["level"], known,
        _adjustment(values["adjustment"]) if "adjustment" in values else None,
    )  # fmt: skip


def _adjustment_values(adjustment: Adjustment) -> dict[str, Any]:
    """For JSON: what the calibration scans have together, beside the ends of their ranges."""
    arrays = {name: getattr(adjustment, name).tolist() for name in _ARRAYS}
    numbers = {"variance": adjustment.variance, "scans": adjustment.scans}
    return {**arrays, **numbers, "covariates": [vars(c) for c in adjustment.covariates]}


def _adjustment(values: dict[str, Any]) -> Adjustment:
    covariates = tuple(
        Covariate(**{**one, "centres": tuple(one["centres"]), "values": tuple(one["values"])})
        for one in values["covariates"]
    )
    arrays = {name: np.array(values[name], float) for name in _ARRAYS}
    return Adjustment(**{**values, **arrays, "covariates": covariates})
