"""The privacy audit: do a model or its synthetic scans leak information about training scans?"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from medgan.core.config import AuditConfig
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_together
from medgan.data.manifest import Manifest
from medgan.data.reading import Refuse, log_refusals
from medgan.evaluation.privacy.copies import (
    smallest_detectable_excess,
    upper_bound_of_copies,
)
from medgan.evaluation.privacy.membership import auroc_half_width
from medgan.model.model import Model
from medgan.reporting.audit import Closeness, Pair, audit_page, plot_pairs
from medgan.studies.attacks import Attacks, membership_attacks
from medgan.studies.cohort_split import CohortSplit
from medgan.studies.generated_sets import GeneratedSet
from medgan.studies.nearest_neighbours import (
    LEVEL,
    PERMUTATIONS,
    PLANTED,
    RATE,
    SCAN_CHECKS,
    NeighbourComparison,
    compare_neighbours,
    shared,
)
from medgan.studies.verdicts import (
    Check,
    Verdict,
    attack_check,
    copies_check,
    distortion_check,
    near_check,
    planted_check,
    swapped_check,
    unless_they_differ,
    verdict,
)

log = logging.getLogger(__name__)
REPORT, PAIRS, PAGE = "audit.json", "pairs.png", "audit.html"
FEWEST_FAKES = 20
SHOWN = 4


def audit(
    generated: GeneratedSet,
    model: Model | None,
    manifest: Manifest,
    out: Path,
    settings: AuditConfig,
    seed: int,
    facts: dict[str, str],
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Runs all checks and writes audit.json, pairs.png and audit.html.

    Args:
        generated: synthetic scans and their grid.
        model: that generated them; None where there are samples alone.
        manifest: its training split are the members; `HELD_OUT` splits are held out.
        out: receives the cache and the files; these show training scans: owner only.
        settings: the audit section.
        seed: of distorted copies and draws.
        facts: versions, for the record.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        The content of audit.json, and the lines to print.

    Raises:
        ConfigError: E_LEAK when a scan is on both sides, E_SPLITS when more scans are given as
            members than the generator was trained on.
        DataError: E_SPLIT with too few scans or synthetic scans.
    """
    if len(generated.images) < FEWEST_FAKES:
        raise DataError(
            "E_SPLIT", generated.name, f"{len(generated.images)} synthetic scans are too few",
            f"give at least {FEWEST_FAKES}",
        )  # fmt: skip
    split = CohortSplit.read(manifest, generated.preprocessing, out, refuse)
    _refuse_non_members(generated, int(split.member.sum()))
    found = compare_neighbours(generated.images, split, seed)
    attacks = membership_attacks(found, split, model, seed)
    verdicts = _verdicts(found, attacks, split, len(generated.images), settings)
    deciding = [verdicts["scans"], verdicts["model"]][: 1 if settings.scope == "scans" else 2]
    worst = min(deciding, key=lambda v: ("failed", "inconclusive", "passed").index(v.status))
    result = {
        "generator": generated.name,
        "scope": settings.scope,
        "verdict": worst.status,
        "verdicts": {name: v.as_json() for name, v in verdicts.items()},
        "protocol": _protocol(generated, split, manifest, settings, seed, facts),
        "metrics": found.as_json(),
        "attacks": {
            where: {name: a.as_json() for name, a in of.items()} for where, of in attacks.items()
        },
        "power": _power(len(generated.images), split, attacks, settings),
    }
    pairs = plot_pairs(_pairs(found, generated.images, split), split.spacing)
    shown = Closeness(found.fakes, found.fresh, found.planted.closeness, found.near.threshold)
    page, report = audit_page(result, pairs, shown), json.dumps(result, indent=1)
    write_together({out / PAIRS: pairs, out / PAGE: page, out / REPORT: report}, private=True)
    lines = [f"{name:6} {v.status}: {v.words}" for name, v in verdicts.items()]
    return result | {"lines": lines}


def _refuse_non_members(generated: GeneratedSet, given: int) -> None:
    """Refuses more members than there were training scans: non-members among them hide leaks.

    Raises:
        ConfigError: E_SPLITS.
    """
    known = generated.training_scans
    if known is not None and given > known:
        raise ConfigError(
            "E_SPLITS", "the two sets", f"{given} scans are given as training scans, but the "
            f"generator has {known}", "give its training scans alone, by data.splits or in a folder"
        )  # fmt: skip


def _verdicts(
    found: NeighbourComparison,
    attacks: Attacks,
    split: CohortSplit,
    fakes: int,
    settings: AuditConfig,
) -> dict[str, Verdict]:
    members, others = split.count
    controls = attacks["controls"]
    most = min(1.0, 2 * upper_bound_of_copies(found.copies, fakes, LEVEL))  # half lie above
    scans = [
        planted_check(found.planted_found, len(found.planted.closeness)),
        distortion_check(found.distorted),
        unless_they_differ(near_check(found.near), controls),
        copies_check(found.copies, fakes, found.copies_fresh, others, most),
        *(unless_they_differ(check, controls) for check in (
            swapped_check(
                "nearer to training",
                "of synthetic scans are nearer to a training scan than to any held-out one",
                found.nearer,
            ),
            swapped_check(
                "authenticity",
                "more are nearer to a training scan than that is to its nearest other than are so "
                "to a held-out one",
                found.authenticity,
            ),
        )),
        *(attack_check(f"black-box, {n}", a, controls) for n, a in attacks["black_box"].items()),
    ]  # fmt: skip
    white_box = [
        attack_check(f"white-box, {n}", a, controls) for n, a in attacks["white_box"].items()
    ]
    if not white_box:
        why = "there are samples alone and no model"
        white_box = [Check("white-box", "inconclusive", why)]
    sizes = f"n = {fakes} synthetic scans, {members} training subjects and {others} held out"
    best = max((a.auroc.high for a in attacks["black_box"].values()), default=1.0)
    worst = max((a.auroc.high for a in attacks["white_box"].values()), default=1.0)
    return {
        "scans": verdict(
            "the synthetic scans", scans, sizes,
            f"{max(found.near.share.high, 0.0):.1%} near copies, {most:.1%} copies and an AUROC of "
            f"{best:.2f}",
        ),
        "model": verdict(
            "the model itself", white_box, f"{members} training subjects and {others} held out",
            f"an AUROC of {worst:.2f}",
        ),
    }  # fmt: skip


def _protocol(
    generated: GeneratedSet,
    split: CohortSplit,
    manifest: Manifest,
    settings: AuditConfig,
    seed: int,
    facts: dict[str, str],
) -> dict[str, Any]:
    """Sizes, seeds and hashes that the results depend on."""
    same = (
        generated.training_digest == manifest.training_digest
        or generated.data_digest == manifest.digest
    )
    if not same:
        log.warning(
            "%s was trained on other scans than the members given here",
            generated.name,
        )
    members, others = split.count
    return settings.model_dump(exclude={"train", "holdout"}) | {
        "seed": seed,
        "planted": PLANTED,
        "rate": RATE,
        "level": LEVEL,
        "permutations": PERMUTATIONS,
        "synthetic_scans": len(generated.images),
        "training_scans": int(split.member.sum()),
        "training_subjects": members,
        "held_out_scans": int((~split.member).sum()),
        "held_out_subjects": others,
        "level_of_scan_checks": shared(LEVEL, SCAN_CHECKS),
        "members_are_its_training_scans": same,
        "data_digest": manifest.digest,
        "samples_sha256": hashlib.sha256(generated.images.numpy().tobytes()).hexdigest(),
        "grid": generated.preprocessing.model_dump(mode="json", include={"shape", "spacing"}),
        **facts,
    }


def _power(
    fakes: int, split: CohortSplit, attacks: Attacks, settings: AuditConfig
) -> dict[str, float]:
    """What sets of these sizes can detect."""
    members, others = split.count
    level = shared(LEVEL, SCAN_CHECKS)
    within = shared(LEVEL, max(len(attacks["white_box"]), 1))
    return {
        "most_copies_if_none_found": min(1.0, 2 * upper_bound_of_copies(0, fakes, LEVEL)),
        "least_excess_noticed": smallest_detectable_excess(fakes, others, RATE, level),
        "auroc_half_width": auroc_half_width(members, others, level),
        "auroc_half_width_white_box": auroc_half_width(members, others, within),
    }


def _pairs(found: NeighbourComparison, fakes: Tensor, split: CohortSplit) -> Sequence[Pair]:
    """The closest pairs, and a planted copy and a held-out scan to compare them with."""
    members, others = split.member.nonzero()[:, 0], split.one_per_subject()

    def pair(kind: str, volume: Tensor, at: int, close: float) -> Pair:
        other = split.images[at, 0].numpy()
        return Pair(kind, volume[0].numpy(), split.cases[at].case, other, close)

    ranked = found.fakes.argsort(descending=True)[:SHOWN]
    nearest = found.to_fakes[members].argmax(dim=0)
    pairs = [
        pair(f"synthetic {int(n)}", fakes[n], int(members[nearest[n]]), float(found.fakes[n]))
        for n in ranked
    ]
    planted = found.planted
    half = int(planted.closeness.argsort()[len(planted.closeness) // 2])
    at, close = int(planted.originals[half]), float(planted.closeness[half])
    pairs.append(pair("planted copy", planted.volumes[half], at, close))
    top = int(found.fresh.argmax())
    row = int(others[top])
    near = int(members[found.between[row, members].argmax()])
    pairs.append(pair("held-out scan", split.images[row], near, float(found.fresh[top])))
    return pairs
