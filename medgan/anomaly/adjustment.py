"""Scan scores given covariates: what healthy scans of that age and sex have is subtracted.

A score that rises with age calls the old ill. So the scores of the calibration scans are regressed
on covariates, and the score of a scan is its distance from the regression. Two things keep p-values
honest. A calibration scan pulls the regression towards itself, a new scan does not: both distances
are divided by their own standard deviation, which leverage gives in closed form. And with few scans
nothing is fitted: every column needs `SCANS_A_COLUMN`.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float

from medgan.core.errors import ConfigError
from medgan.data.conditions import Value, is_known, number_of

log = logging.getLogger(__name__)
Kind = Literal["categorical", "continuous"]
SCANS_A_COLUMN = 10
"""Calibration scans for each coefficient: a number takes one, a covariate of k categories k - 1."""
_SCANS_A_CATEGORY = 5
"""Rarer categories are taken for unknown."""
_LEAST = 1e-3
"""Smallest share of its variance that a calibration scan's residual keeps."""


@dataclass(frozen=True)
class Covariate:
    """A covariate of the calibration scans: aggregates, and the ends of its range.

    Attributes:
        name: of the column.
        kind: continuous or categorical.
        centres: mean of a number; share of each category but the first.
        values: categories in order.
        low, high: of the youngest and oldest, where it is an age; the range of a number.
    """

    name: str
    kind: Kind
    centres: tuple[float, ...]
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def known(self, value: Value) -> bool:
        """Whether a value says something; a category that was not seen does not."""
        return is_known(value) and (self.kind == "continuous" or str(value) in self.values)

    def columns(self, value: Value) -> list[float]:
        """The value as centred regressors; zeros where it is unknown."""
        if not self.known(value):
            return [0.0] * len(self.centres)
        if self.kind == "continuous":
            return [number_of(self.name, value) - self.centres[0]]
        others = zip(self.values[1:], self.centres, strict=True)
        return [(str(value) == one) - share for one, share in others]

    def outside(self, value: Value) -> bool:
        """Whether a number lies beyond those of the calibration scans."""
        if self.kind == "categorical" or not self.known(value):
            return False
        return not self.low <= number_of(self.name, value) <= self.high


@dataclass(frozen=True)
class Adjustment:
    """Least-squares regression of healthy scan scores on covariates.

    Attributes:
        covariates: that it adjusts for.
        coefficients: (K,), of the centred columns.
        products: (K, K), sums of squares and products of the columns.
        variance: of the residuals.
        scans: number of calibration scans.
    """

    covariates: tuple[Covariate, ...]
    coefficients: Float[np.ndarray, " K"]
    products: Float[np.ndarray, "K K"]
    variance: float
    scans: int

    @cached_property
    def inverse(self) -> Float[np.ndarray, "K K"]:
        """Of the products."""
        return np.linalg.pinv(self.products, hermitian=True)

    @property
    def covariance(self) -> Float[np.ndarray, "K K"]:
        """Of the columns."""
        return self.products / (self.scans - 1)

    def __call__(self, score: float, values: Mapping[str, Value]) -> float:
        """The score of a new scan less the mean of healthy scans like it.

        Divided by the standard deviation of such a difference, in units of that of the residuals:
        it is wider far from the calibration scans, and where a covariate is unknown.

        Args:
            score: not adjusted.
            values: covariates of the scan by name; what is missing is unknown.

        Raises:
            ConfigError: E_CONDITION for a continuous value that is no number.
        """
        row, unknown = _rows(self.covariates, [values])
        leverage = 1 / self.scans + float(row[0] @ self.inverse @ row[0])
        spread = 1 + leverage + self._spread_of(unknown[0])
        return float((score - row[0] @ self.coefficients) / np.sqrt(spread))

    def remarks(self, values: Mapping[str, Value]) -> list[str]:
        """Unknown values, and numbers outside of what the calibration scans have."""
        found = []
        for one in self.covariates:
            value = values.get(one.name)
            if not is_known(value):
                found.append(f"its {one.name} is unknown and not adjusted for")
            elif not one.known(value):
                found.append(f"no healthy scan has its {one.name} {value}, not adjusted for")
            elif one.outside(value):
                found.append(
                    f"its {one.name} {value} lies outside the {one.low:g} to {one.high:g} of the "
                    "healthy scans"
                )
        return found

    def _spread_of(self, unknown: Float[np.ndarray, " K"]) -> float:
        """Variance that unknown columns add, as a share of that of the residuals."""
        missing = self.coefficients * unknown
        return float(missing @ self.covariance @ missing) / max(self.variance, 1e-12)


def fit_adjustment(
    scores: Sequence[float], rows: Sequence[Mapping[str, Value]], kinds: Mapping[str, Kind]
) -> tuple[Adjustment | None, list[float]]:
    """The regression, and the calibration scans' own scores by it.

    Args:
        scores: of the calibration scans; their mean is 0.
        rows: the covariates of each.
        kinds: those to adjust for, the most important first. One for which there are too few scans
            is left out, and a log line says so.

    Returns:
        None where nothing is adjusted for; residuals divided by their standard deviations, which
        are as wide as what the regression gives for new healthy scans.

    Raises:
        ConfigError: E_CONDITION for a covariate that no scan has or that is no number.

    Reference: Cook and Weisberg 1982, Residuals and influence in regression, section 2.2.
    """
    covariates = _usable(rows, kinds)
    if not covariates:
        return None, list(scores)
    columns, unknown = _rows(covariates, rows)
    products = columns.T @ columns
    inverse = np.linalg.pinv(products, hermitian=True)
    coefficients = inverse @ columns.T @ np.asarray(scores)
    residuals = np.asarray(scores) - columns @ coefficients
    count, width = columns.shape
    found = Adjustment(
        tuple(covariates), coefficients, products,
        float(residuals @ residuals) / (count - width - 1), count,
    )  # fmt: skip
    leverage = 1 / count + np.einsum("nk,kl,nl->n", columns, inverse, columns)
    spread = 1 - leverage + [found._spread_of(missing) for missing in unknown]
    log.info("scores are adjusted for %s", ", ".join(one.name for one in covariates))
    return found, (residuals / np.sqrt(np.maximum(spread, _LEAST))).tolist()


def _usable(rows: Sequence[Mapping[str, Value]], kinds: Mapping[str, Kind]) -> list[Covariate]:
    """The covariates that the scans can carry."""
    found: list[Covariate] = []
    width = 0
    for name, kind in kinds.items():
        one, known = _summarise(name, kind, rows)
        needed = SCANS_A_COLUMN * (width + max(len(one.centres), 1))
        if known < needed:
            log.warning(
                "scores are not adjusted for %s: %d healthy scans have it, %d are needed",
                name, known, needed,
            )  # fmt: skip
        elif (one.kind == "continuous" and one.low == one.high) or not one.centres:
            log.warning(
                "scores are not adjusted for %s: it hardly varies among the healthy scans", name
            )
        else:
            found.append(one)
            width += len(one.centres)
    return found


def _summarise(name: str, kind: Kind, rows: Sequence[Mapping[str, Value]]) -> tuple[Covariate, int]:
    """A covariate, and how many scans have a value that counts."""
    known = [value for row in rows if is_known(value := row.get(name))]
    if not known:
        names = ", ".join(sorted({key for row in rows for key in row})) or "none"
        raise ConfigError(
            "E_CONDITION", name, "no healthy scan has a value",
            f"fill it, or use another column in score.covariates; there are: {names}",
        )  # fmt: skip
    if kind == "continuous":
        numbers = [number_of(name, value) for value in known]
        mean = (float(np.mean(numbers)),)
        return Covariate(name, kind, mean, (), min(numbers), max(numbers)), len(numbers)
    counts = Counter(str(value) for value in known)
    values = sorted(value for value, n in counts.items() if n >= _SCANS_A_CATEGORY)
    total = sum(counts[value] for value in values)
    shares = tuple(counts[value] / total for value in values[1:])
    return Covariate(name, kind, shares, tuple(values)), total


def _rows(
    covariates: Sequence[Covariate], rows: Sequence[Mapping[str, Value]]
) -> tuple[Float[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    """Centred columns, and 1 in those whose covariate is unknown."""
    columns, unknown = [], []
    for row in rows:
        columns.append([x for one in covariates for x in one.columns(row.get(one.name))])
        unknown.append(
            [float(not one.known(row.get(one.name))) for one in covariates for _ in one.centres]
        )
    return np.array(columns, float), np.array(unknown, float)
