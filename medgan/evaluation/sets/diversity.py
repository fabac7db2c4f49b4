"""Diversity of a set of volumes, to be compared with that of a real set.

Precision, recall, density and coverage are in `medgan.networks.metrics`: training uses them too.
Similarity within a set is in `medgan.evaluation.sets.similarity`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_FOLDS = 5
_PERMUTATIONS = 39
_CHANCE = 0.05


def vendi_score(features: Float[Tensor, "N F"], width: float) -> float:
    """Effective number of different volumes: 1 where all are equal, N where none is similar.

    The exponential of the entropy of the eigenvalues of the Gaussian kernel, divided by N. It
    grows with N.

    Args:
        features: shape (N, F), as they are.
        width: of the kernel, in units of the features.

    Reference: Friedman and Dieng 2023, arXiv 2210.02410, definition 3.1.
    """
    x = features.double()
    squared = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    kernel = torch.exp(-squared / (2 * width**2))
    values = torch.linalg.eigvalsh(kernel / len(x)).clamp(min=0)
    return float(torch.special.entr(values).sum().exp())


def median_distance(features: Float[Tensor, "N F"]) -> float:
    """Median distance between the volumes of a set, at least 1e-12."""
    return float(torch.pdist(features.double()).median().clamp(min=1e-12))


def class_score(probabilities: Float[Tensor, "N C"]) -> float:
    """Inception score: how confident a classifier is, and how many classes it finds.

    From 1, where all volumes get the same probabilities, to the number of classes.

    Args:
        probabilities: of each class, rows summing to 1.

    Reference: Salimans et al. 2016, arXiv 1606.03498, section 4.
    """
    p = probabilities.double()
    information = torch.special.entr(p.mean(dim=0)).sum() - torch.special.entr(p).sum(dim=1).mean()
    return float(information.exp())


class Classes(NamedTuple):
    """Predictions of a classifier of a covariate, trained on real volumes.

    Attributes:
        accuracy: balanced, on held-out real volumes (cross-validated).
        p_value: of a permutation test of the accuracy.
        real: cross-validated probabilities (N, C) of real volumes.
        fake: probabilities (M, C) of synthetic volumes.
    """

    accuracy: float
    p_value: float
    real: Tensor
    fake: Tensor

    @property
    def usable(self) -> bool:
        """Whether the classifier is better than chance."""
        return self.p_value <= _CHANCE


def classify(
    real: Float[Tensor, "N F"],
    categories: Sequence[str],
    subjects: Sequence[str],
    fake: Float[Tensor, "M F"],
    seed: int = 0,
) -> Classes | None:
    """Cross-validated classification of a categorical covariate from features of real volumes.

    Logistic regression on standardised features in five folds of subjects; each synthetic volume is
    classified by one of the five models, as each real volume is.

    Args:
        real: features, shape (N, F).
        categories: of each real volume.
        subjects: of each real volume; a subject's scans stay in one fold.
        fake: features, shape (M, F).
        seed: of folds and permutations.

    Returns:
        None where fewer than two categories have ten volumes each, or any has fewer.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, truth = np.unique(list(categories), return_inverse=True)
    if len(names) < 2 or np.bincount(truth).min() < 2 * _FOLDS:
        return None
    x, z = real.double().numpy(), fake.double().numpy()

    def fitted(rows: np.ndarray, targets: np.ndarray) -> Pipeline:
        learner = LogisticRegression(C=1e-2, class_weight="balanced", max_iter=1000)
        return make_pipeline(StandardScaler(), learner).fit(x[rows], targets[rows])

    # By order of appearance: sorted pseudonyms, and so the folds, would differ between sites.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(subjects))}
    groups = [numbers[name] for name in subjects]
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    try:
        parts = list(folds.split(x, truth, groups))
    except ValueError:  # too few subjects
        return None

    def guesses(targets: np.ndarray) -> np.ndarray:
        found = np.full((len(x), len(names)), 1 / len(names))
        for train, test in parts:
            model = fitted(train, targets)
            found[np.ix_(test, model.classes_)] = model.predict_proba(x[test])
        return found

    of_real = guesses(truth)
    accuracy = float(balanced_accuracy_score(truth, of_real.argmax(axis=1)))
    rng = np.random.default_rng(seed)
    as_good = 0
    for _ in range(_PERMUTATIONS):
        shuffled = rng.permutation(truth)
        by_chance = balanced_accuracy_score(shuffled, guesses(shuffled).argmax(axis=1))
        as_good += by_chance >= accuracy
    of_fake = np.zeros((len(z), len(names)))
    for number, (train, _) in enumerate(parts):
        model = fitted(train, truth)
        turn = np.arange(number, len(z), len(parts))
        of_fake[np.ix_(turn, model.classes_)] = model.predict_proba(z[turn])
    return Classes(
        accuracy, (1 + as_good) / (1 + _PERMUTATIONS),
        torch.from_numpy(of_real), torch.from_numpy(of_fake),
    )  # fmt: skip
