"""Membership-inference attacks of the privacy audit."""

import torch
from torch import Tensor

from medgan.core.progress import counting
from medgan.evaluation.privacy.membership import (
    Attack,
    Attacks,
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
    shared,
)
from medgan.studies.white_box import BATCH, white_box_scores


def membership_attacks(
    split: CohortSplit, between: Tensor, to_fakes: Tensor | None, model: Model | None, seed: int
) -> Attacks:
    """Black-box and white-box attacks, and controls without any model.

    Args:
        split: members and held-out scans, R of them.
        between: (R, R), their similarities to each other.
        to_fakes: (R, N), those to synthetic scans; None without any, and without black-box attacks.
        model: None leaves white-box attacks out.
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
        "neighbours": neighbour_control(between, *both, PERMUTATIONS // 4, seed),
    }
    black_box = {} if to_fakes is None else black_box_scores(to_fakes)
    white_box: dict[str, Tensor] = {}
    if model is not None:
        with counting("white-box attacks") as tick:
            white_box = white_box_scores(model, split.images, tick)
    return {
        "black_box": attacked(black_box, SCAN_CHECKS),
        "white_box": attacked(white_box, max(len(white_box), 1)),
        "controls": controls,
    }
