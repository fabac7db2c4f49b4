"""Score maps of patients in their own grids: the model's, single scorers and floors."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.calibration import Calibration, ScoringConfig, calibrate, left_out_maps
from medgan.anomaly.context import ScoringContext
from medgan.anomaly.scorers import make_maps
from medgan.anomaly.simple import SIMPLE
from medgan.core.volume import AIR
from medgan.data.manifest import Case
from medgan.data.prepare import PreparedScan
from medgan.model.anomaly import rescaled
from medgan.model.inversion import batch_of
from medgan.model.model import Model
from medgan.model.outputs import ScanScore
from medgan.studies.detection.protocol import FALSE_VOXELS

OWN = "model"
"""The row of the model's calibrated score: its scorers, combined as `medgan score` does."""
_EQUALISED = "equalised"
FLOORS = ("dark z-score", "bright z-score", _EQUALISED)
"""Of `SIMPLE`, what needs no training. Z-scores are intensities in standard deviations of the
healthy calibration scans at each position of the model's grid; `equalised` is the rank of a voxel
among those of its scan, so that a threshold of it is one of brightness after histogram
equalisation."""


class Thresholds(NamedTuple):
    """Thresholds from healthy calibration scans alone; not a number where these are not at hand.

    Attributes:
        voxels: `FALSE_VOXELS` of the healthy voxels lie above it.
        regions: median of the highest values of healthy maps, above which pages show regions.
    """

    voxels: float = np.nan
    regions: float = np.nan


class OwnMap(NamedTuple):
    """A map in a scan's own grid.

    Attributes:
        data: (I, J, K), higher is more abnormal.
        thresholds: of it.
    """

    data: np.ndarray
    thresholds: Thresholds


class PatientMaps:
    """The maps of a scan, by the model and by whatever healthy scans allow to compare it with.

    Args:
        model: calibrated.
        names: scorers of the model with a row of their own.
        healthy: calibration scans, which give every other row its mean, spread and thresholds;
            without any, there are only the model's row and `equalised`.
    """

    def __init__(self, model: Model, names: Sequence[str], healthy: Iterable[PreparedScan]) -> None:
        self._model, self._networks = model, model.scoring_networks()
        self._names = tuple(names)
        self._calibrations: dict[str, Calibration] = {}
        self._thresholds = {OWN: Thresholds(), _EQUALISED: Thresholds()}
        raw: dict[str, list[Tensor]] = {}
        inside: list[Tensor] = []
        own: list[np.ndarray] = []
        for scan in healthy:
            made, volume = self._raw(scan)
            inside.append(volume > AIR)
            for name, found in made.items():
                raw.setdefault(name, []).append(found)
            own.append(model.score(scan).score_map.data[foreground(scan)])
        level = model.needed_calibration.level
        self._thresholds[OWN] = Thresholds(_quantile(np.concatenate(own or [[]])), level)
        within = torch.cat(inside) if inside else torch.zeros(0, dtype=torch.bool, device="cpu")
        for name in list(raw):
            self._calibrate(name, torch.cat(raw.pop(name)), within)

    @property
    def rows(self) -> list[str]:
        """Names of the maps."""
        return list(self._thresholds)

    @torch.inference_mode()
    def __call__(self, scan: PreparedScan, case: Case) -> tuple[ScanScore, dict[str, OwnMap]]:
        """What `medgan score` says of the scan of a case, and its maps by row, in its own grid."""
        covariates = self._model.needed_calibration.covariates_of(case)
        score = self._model.score(scan, covariates=covariates)
        maps = {OWN: OwnMap(score.score_map.data, self._thresholds[OWN])}
        for name, found in self._raw(scan)[0].items():
            if name in self._calibrations:
                found = self._calibrations[name].statistics[name].standardise(found)
            elif name != _EQUALISED:
                continue
            maps[name] = OwnMap(scan.back(found[0, 0].numpy()).data, self._thresholds[name])
        return score, maps

    @torch.inference_mode()
    def _raw(self, scan: PreparedScan) -> tuple[dict[str, Tensor], Tensor]:
        """Maps (1, 1, X, Y, Z) by name, and the first channel of the volume."""
        scan, _ = rescaled(self._model, scan)
        context = ScoringContext(batch_of(self._model, scan), self._networks)
        volume = context.volume.float().cpu()
        mean = volume.mean(dim=1, keepdim=True)
        made = make_maps(context, self._names) | {n: SIMPLE[n]().map(mean) for n in FLOORS}
        return {name: found.expand(mean.shape) for name, found in made.items()}, volume[:, :1]

    def _calibrate(self, name: str, raw: Tensor, within: Tensor) -> None:
        if name == _EQUALISED:
            self._thresholds[name] = Thresholds(_quantile(raw[within].numpy()))
            return
        found = calibrate({name: raw}, ScoringConfig((name,)))
        left_out = torch.cat([maps[name] for maps in left_out_maps({name: raw})])
        self._calibrations[name] = found
        self._thresholds[name] = Thresholds(_quantile(left_out[within].numpy()), found.level)


def foreground(scan: PreparedScan) -> np.ndarray:
    """Where a scan has tissue inside the model's field of view, in its own grid."""
    tissue = (scan.volume > AIR).any(dim=0).float().numpy()
    return scan.back(tissue).data > 0.5


def _quantile(healthy: np.ndarray) -> float:
    return float(np.quantile(healthy, 1 - FALSE_VOXELS)) if len(healthy) else float("nan")
