"""Directions of the latent along which scans with a covariate differ from scans without it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medgan.core.errors import ConfigError
from medgan.data.conditions import Value, is_known
from medgan.evaluation.interval import Interval

PREFIX = "covariate:"
"""Before the name of a covariate, where a direction of the latent is asked for."""
FEWEST = 20
"""Scans with a value, fewer of which say nothing."""
_FOLDS = 10
_STRENGTHS = np.logspace(0, 5, 11)


class CovariateDirection(NamedTuple):
    """How the encoder's latents of scans change with a covariate, along a straight line.

    Attributes:
        name: of the covariate.
        unit: its standard deviation, such as `15.9` of an age; of categories such as `F to M`.
        vector: change of the latent with one standard deviation; of two categories, that is about
            half of the way from one to the other.
        correlation: of the covariate with its prediction from latents of other subjects, with its
            95% interval.
        scans: with a value.
    """

    name: str
    unit: str
    vector: Float[np.ndarray, " L"]
    correlation: Interval
    scans: int

    @property
    def found(self) -> bool:
        """Whether latents of other subjects tell anything about the covariate."""
        return self.correlation.low > 0

    @property
    def step(self) -> str:
        """Such as `SD 15.9`, or `F to M`."""
        return self.unit if " to " in self.unit else f"SD {self.unit}"

    @property
    def words(self) -> str:
        """Such as `correlation 0.55 (0.38 to 0.68) in 81 scans`."""
        value, low, high = self.correlation
        text = f"correlation {value:.2f} ({low:.2f} to {high:.2f}) in {self.scans} scans"
        return text if self.found else f"none found: {text}"


def covariate_direction(
    name: str,
    latents: Float[np.ndarray, "N L"],
    values: Sequence[Value],
    subjects: Sequence[str],
) -> CovariateDirection:
    """The regression of latents on a covariate, and of the covariate on latents across subjects.

    The direction is the slope of the latents, by least squares. Whether there is anything to
    follow is judged the other way round: ridge regression predicts the covariate of each tenth of
    the subjects from the others.

    Args:
        name: of the covariate.
        latents: of the encoder, one for each scan.
        values: of the scans; unknown ones are left out.
        subjects: of the scans; one of them is never on both sides.

    Raises:
        ConfigError: E_CONDITION for a covariate that is neither numbers nor two categories, or
            that too few scans have.
    """
    known = [n for n, value in enumerate(values) if is_known(value)]
    target, unit = _numbers(name, [values[n] for n in known])
    if len({subjects[n] for n in known}) < FEWEST:
        raise _error(name, f"{len(known)} scans have a value", f"{FEWEST} subjects are needed")
    chosen = latents[known]
    slope = (target - target.mean()) @ (chosen - chosen.mean(axis=0))
    slope = slope / np.square(target - target.mean()).sum()
    groups = np.unique([subjects[n] for n in known], return_inverse=True)[1]
    correlation = _across_subjects(chosen, target, groups)
    return CovariateDirection(name, unit, slope.astype(np.float32), correlation, len(known))


def _across_subjects(latents: np.ndarray, target: np.ndarray, groups: np.ndarray) -> Interval:
    """Correlation of a target with its prediction from other subjects' latents."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS))
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=0)
    predicted = np.asarray(cross_val_predict(ridge, latents, target, groups=groups, cv=folds))
    flat = predicted.std() < 1e-9 * target.std()
    value = 0.0 if flat else float(np.corrcoef(target, predicted)[0, 1])
    half = 1.96 / np.sqrt(max(len(np.unique(groups)) - 3, 1))  # Fisher 1921
    middle = np.arctanh(np.clip(value, -0.999999, 0.999999))
    return Interval(value, float(np.tanh(middle - half)), float(np.tanh(middle + half)))


def _numbers(name: str, values: Sequence[Value]) -> tuple[np.ndarray, str]:
    """Numbers or two categories in standard deviations, and what these are."""
    if not values:
        raise _error(name, "no scan has a value", "name a column of the table of the scans")
    try:
        numbers = np.array([float(str(value)) for value in values])
    except ValueError:
        numbers = np.array([np.nan])
    kinds = sorted({str(value) for value in values})
    if len(kinds) == 2:
        numbers = np.array([float(str(value) == kinds[1]) for value in values])
        return numbers / numbers.std(), f"{kinds[0]} to {kinds[1]}"
    if not np.isfinite(numbers).all() or numbers.std() == 0:
        raise _error(name, f"{len(kinds)} categories", "name numbers or two categories")
    return numbers / numbers.std(), f"{numbers.std():.3g}"


def _error(name: str, what: str, remedy: str) -> ConfigError:
    return ConfigError("E_CONDITION", name, what, remedy)
