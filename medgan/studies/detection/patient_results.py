"""Results of one patient's scan, a map at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgan.data.groups import groups_of
from medgan.data.manifest import Case
from medgan.evaluation.detection.lesionwise import Found
from medgan.model.outputs import ScanScore

_NONE = float("nan")


@dataclass(frozen=True)
class MapResult:
    """Metrics of one map of one scan, voxels of its tissue alone.

    Attributes:
        dice: by threshold, `voxels` and `regions`.
        found: lesions and false alarms, likewise.
        auroc, average_precision, prevalence: over voxels; not a number without a lesion.
        best_dice, best_threshold: chosen by the mask itself.
    """

    dice: Mapping[str, float]
    found: Mapping[str, Found]
    auroc: float = _NONE
    average_precision: float = _NONE
    prevalence: float = _NONE
    best_dice: float = _NONE
    best_threshold: float = _NONE

    def metrics(self) -> dict[str, float]:
        """All metrics by name; some are not a number."""
        values = {
            "voxel_auroc": self.auroc,
            "average_precision": self.average_precision,
            "prevalence": self.prevalence,
            "precision_ratio": self.average_precision / self.prevalence,
            "dice_best": self.best_dice,
            "threshold_best": self.best_threshold,
        }
        for name in ("voxels", "regions"):
            found = self.found.get(name)
            values |= {
                f"dice_{name}": self.dice.get(name, _NONE),
                f"lesions_{name}": _NONE if found is None else float(sum(found.found)),
                f"false_alarms_{name}": _NONE if found is None else float(found.false_alarms),
                f"false_ml_{name}": _NONE if found is None else found.false_millilitres,
            }
        return values


@dataclass(frozen=True)
class PatientResult:
    """One scan.

    Attributes:
        case, subject: pseudonyms.
        groups: of age and sex that the subject belongs to.
        score, p_value, reasons: of `medgan score`, `ScanScore`.
        millilitres: volume of all lesions.
        maps: metrics by row.
    """

    case: str
    subject: str
    groups: list[str]
    score: float
    p_value: float | None
    reasons: tuple[str, ...]
    millilitres: float
    maps: Mapping[str, MapResult]

    @classmethod
    def of(
        cls, case: Case, score: ScanScore, millilitres: float, maps: Mapping[str, MapResult]
    ) -> "PatientResult":
        """Of a case and its score, without the volumes of either."""
        return cls(
            case.case, case.subject, groups_of(case.covariates), score.score, score.p_value,
            score.reasons, millilitres, maps,
        )  # fmt: skip

    def ratio(self, row: str) -> float:
        """Average precision over prevalence; not a number without a lesion."""
        return self.maps[row].metrics()["precision_ratio"]

    def title(self, row: str) -> str:
        """For a picture."""
        return f"{self.case}, {self.millilitres:.1f} ml: {self.ratio(row):.1f} x prevalence"

    def as_json(self) -> dict[str, Any]:
        """The scan without its maps."""
        return {
            "case": self.case,
            "subject": self.subject,
            "comparable": not self.reasons,
            "reasons": list(self.reasons),
            "p_value": self.p_value,
            "score": round(self.score, 5),
            "lesion_ml": round(self.millilitres, 4),
            "groups": self.groups,
        }


def by_subject(
    results: Sequence[PatientResult], value: Callable[[PatientResult], float]
) -> np.ndarray:
    """One number a subject, the mean over its scans; not a number where no scan has one."""
    found: dict[str, list[float]] = {}
    for one in results:
        found.setdefault(one.subject, []).append(value(one))
    known = [[v for v in values if not np.isnan(v)] for values in found.values()]
    return np.array([np.mean(values) if values else _NONE for values in known])
