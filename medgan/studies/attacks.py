"""Membership-inference attacks of the privacy audit."""

import torch
from torch import Tensor

from medgan.core.progress import counting
from medgan.evaluation.privacy.membership import (
    Attack,
    attack,
    black_box_scores,
    feature_control,
    mean_by_subject,
    neighbour_control,
)
from medgan.model.model import Model
from medgan.networks.metrics import band_features
from medgan.studies.cohort_split import CohortSplit
from medgan.studies.nearest_neighbours import (
    LEVEL,
    PERMUTATIONS,
    SCAN_CHECKS,
    NeighbourComparison,
    shared,
)
from medgan.studies.white_box import BATCH, white_box_scores

Attacks = dict[str, dict[str, Attack]]
"""Attacks by name, in the groups `black_box`, `white_box` and `controls`."""


def membership_attacks(
    found: NeighbourComparison, split: CohortSplit, model: Model | None, seed: int
) -> Attacks:
    """Black-box and white-box attacks, and controls without any model.

    Args:
        found: of the synthetic scans.
        split: members and held-out scans.
        model: that generated the scans; None leaves white-box attacks out.
        seed: of the permutations of the controls.
    """
    member, subject = split.member, split.subject

    def attacked(scores: dict[str, Tensor], checks: int) -> dict[str, Attack]:
        level = shared(LEVEL, checks)
        sides = {
            name: [mean_by_subject(s[side], subject[side]) for side in (member, ~member)]
            for name, s in scores.items()
        }
        return {name: attack(ours, theirs, level) for name, (ours, theirs) in sides.items()}

    features = torch.cat([band_features(part) for part in split.images.split(BATCH)])
    both = (member, subject, shared(LEVEL, 2))
    controls = {
        "features": feature_control(features, *both, PERMUTATIONS // 10, seed),
        "neighbours": neighbour_control(found.between, *both, PERMUTATIONS // 4, seed),
    }
    white_box: dict[str, Tensor] = {}
    if model is not None:
        with counting("white-box attacks") as tick:
            white_box = white_box_scores(model, split.images, tick)
    return {
        "black_box": attacked(black_box_scores(found.to_fakes), SCAN_CHECKS),
        "white_box": attacked(white_box, max(len(white_box), 1)),
        "controls": controls,
    }
