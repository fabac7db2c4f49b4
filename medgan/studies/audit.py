"""Does a model, or what it generates, give away the scans it was trained on?"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.core.config import AuditConfig
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_together
from medgan.core.progress import counting
from medgan.data.manifest import Manifest
from medgan.evaluation.privacy.copies import (
    least_noticed,
    most_missed,
)
from medgan.evaluation.privacy.membership import (
    Attack,
    attack,
    by_person,
    half_width,
    outside,
    told_by_features,
    told_by_neighbours,
)
from medgan.model.model import Model
from medgan.networks.metrics import band_features
from medgan.reporting.audit import Closeness, Pair, audit_page, plot_pairs
from medgan.studies.cohort_split import People
from medgan.studies.generated_sets import Contestant
from medgan.studies.nearest_neighbours import SCAN_CHECKS, Resemblance, resemblance, shared
from medgan.studies.verdicts import (
    Check,
    Verdict,
    attack_check,
    copies_check,
    disguise_check,
    near_check,
    planted_check,
    swapped_check,
    unless_they_differ,
    verdict,
)
from medgan.studies.white_box import BATCH, inside_scores

log = logging.getLogger(__name__)
REPORT, PAIRS, PAGE = "audit.json", "pairs.png", "audit.html"
FEWEST_FAKES = 20
SHOWN = 4


def audit(
    contestant: Contestant,
    model: Model | None,
    manifest: Manifest,
    out: Path,
    settings: AuditConfig,
    facts: dict[str, str],
) -> dict[str, Any]:
    """Runs every check and writes audit.json, pairs.png and audit.html.

    Args:
        contestant: synthetic scans and their grid.
        model: they come from; None where there are samples alone.
        manifest: its training split are the members, calibration and test the others.
        out: receives the cache and the files, which show training scans: owner only.
        settings: the audit section.
        facts: versions, for the record.

    Returns:
        What audit.json holds, and the lines to print.

    Raises:
        ConfigError: E_LEAK when a scan is on both sides, E_SPLITS when more are given as trained
            on than were.
        DataError: E_SPLIT with too few scans or synthetic scans.
    """
    if len(contestant.images) < FEWEST_FAKES:
        raise DataError(
            "E_SPLIT", contestant.name, f"{len(contestant.images)} synthetic scans are too few",
            f"give at least {FEWEST_FAKES}",
        )  # fmt: skip
    _refuse_others(contestant, manifest)
    people = People.read(manifest, contestant.preprocessing, out)
    found = resemblance(contestant.images, people, settings)
    attacks = _attacks(found, people, model, settings)
    verdicts = _verdicts(found, attacks, people, len(contestant.images), settings)
    deciding = [verdicts["scans"], verdicts["model"]][: 1 if settings.of == "scans" else 2]
    worst = min(deciding, key=lambda v: ("failed", "inconclusive", "passed").index(v.status))
    result = {
        "generator": contestant.name,
        "of": settings.of,
        "verdict": worst.status,
        "verdicts": {name: v.as_json() for name, v in verdicts.items()},
        "protocol": _protocol(contestant, people, manifest, settings, facts),
        "figures": found.as_json(),
        "attacks": {
            where: {name: a.as_json() for name, a in of.items()} for where, of in attacks.items()
        },
        "power": _power(len(contestant.images), people, attacks, settings),
    }
    pairs = plot_pairs(_pairs(found, contestant.images, people), people.spacing)
    shown = Closeness(found.fakes, found.fresh, found.planted.closeness, found.near.threshold)
    page, report = audit_page(result, pairs, shown), json.dumps(result, indent=1)
    write_together({out / PAIRS: pairs, out / PAGE: page, out / REPORT: report}, private=True)
    lines = [f"{name:6} {v.status}: {v.words}" for name, v in verdicts.items()]
    return result | {"lines": lines}


def _refuse_others(contestant: Contestant, manifest: Manifest) -> None:
    """Refuses members of whom some cannot be: they would hide what shows of the others.

    Raises:
        ConfigError: E_SPLITS.
    """
    given = sum(case.healthy for case in manifest.split("train"))
    known = contestant.training_scans
    if known is not None and given > known:
        raise ConfigError(
            "E_SPLITS", "the two sets", f"{given} scans are given as trained on, of which the "
            f"generator has learned from {known}", "give these alone, by data.splits or in a folder"
        )  # fmt: skip


Attacks = dict[str, dict[str, Attack]]


def _attacks(
    found: Resemblance, people: People, model: Model | None, settings: AuditConfig
) -> Attacks:
    """From outside, from inside, and without any model."""
    member, person = people.member, people.person

    def tried(scores: dict[str, Tensor], checks: int) -> dict[str, Attack]:
        level = shared(settings.level, checks)
        sides = {
            name: [by_person(s[side], person[side]) for side in (member, ~member)]
            for name, s in scores.items()
        }
        return {name: attack(ours, theirs, level) for name, (ours, theirs) in sides.items()}

    features = torch.cat([band_features(part) for part in people.images.split(BATCH)])
    both = (member, person, shared(settings.level, 2))
    controls = {
        "features": told_by_features(features, *both, settings.exchanges // 10, settings.seed),
        "neighbours": told_by_neighbours(
            found.between, *both, settings.exchanges // 4, settings.seed
        ),
    }
    inside: dict[str, Tensor] = {}
    if model is not None:
        with counting("looking inside") as tick:
            inside = inside_scores(model, people.images, tick)
    return {
        "outside": tried(outside(found.to_fakes), SCAN_CHECKS),
        "inside": tried(inside, max(len(inside), 1)),
        "controls": controls,
    }


def _verdicts(
    found: Resemblance, attacks: Attacks, people: People, fakes: int, settings: AuditConfig
) -> dict[str, Verdict]:
    members, others = people.count
    controls = attacks["controls"]
    most = min(1.0, 2 * most_missed(found.copies, fakes, settings.level))  # half lie above
    scans = [
        planted_check(found.planted_found, len(found.planted.closeness)),
        disguise_check(found.disguised),
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
        *(attack_check(f"outside, {n}", a, controls) for n, a in attacks["outside"].items()),
    ]  # fmt: skip
    inside = [attack_check(f"inside, {n}", a, controls) for n, a in attacks["inside"].items()]
    if not inside:
        why = "samples alone, without a model to look into"
        inside = [Check("inside", "inconclusive", why)]
    sizes = f"n = {fakes} synthetic scans, {members} people trained on and {others} held out"
    best = max((a.auroc.high for a in attacks["outside"].values()), default=1.0)
    worst = max((a.auroc.high for a in attacks["inside"].values()), default=1.0)
    return {
        "scans": verdict(
            "the synthetic scans", scans, sizes,
            f"{max(found.near.share.high, 0.0):.1%} near copies, {most:.1%} copies and an AUROC of "
            f"{best:.2f}",
        ),
        "model": verdict(
            "the model itself", inside, f"{members} people trained on and {others} held out",
            f"an AUROC of {worst:.2f}",
        ),
    }  # fmt: skip


def _protocol(
    contestant: Contestant,
    people: People,
    manifest: Manifest,
    settings: AuditConfig,
    facts: dict[str, str],
) -> dict[str, Any]:
    """Sizes, seeds and hashes that the figures depend on."""
    theirs = (
        contestant.training_digest == manifest.training_digest
        or contestant.data_digest == manifest.digest
    )
    if not theirs:
        log.warning(
            "%s names other training scans than these: members must be what it was trained on",
            contestant.name,
        )
    members, others = people.count
    return settings.model_dump(exclude={"train", "holdout", "model"}) | {
        "synthetic_scans": len(contestant.images),
        "training_scans": int(people.member.sum()),
        "training_people": members,
        "held_out_scans": int((~people.member).sum()),
        "held_out_people": others,
        "level_of_scan_checks": shared(settings.level, SCAN_CHECKS),
        "members_are_its_training_scans": theirs,
        "data_digest": manifest.digest,
        "samples_sha256": hashlib.sha256(contestant.images.numpy().tobytes()).hexdigest(),
        "grid": contestant.preprocessing.model_dump(mode="json", include={"shape", "spacing"}),
        **facts,
    }


def _power(fakes: int, people: People, attacks: Attacks, settings: AuditConfig) -> dict[str, float]:
    """What could have been noticed with sets of these sizes."""
    members, others = people.count
    level = shared(settings.level, SCAN_CHECKS)
    within = shared(settings.level, max(len(attacks["inside"]), 1))
    return {
        "most_copies_if_none_found": min(1.0, 2 * most_missed(0, fakes, settings.level)),
        "least_excess_noticed": least_noticed(fakes, others, settings.rate, level),
        "auroc_half_width": half_width(members, others, level),
        "auroc_half_width_inside": half_width(members, others, within),
    }


def _pairs(found: Resemblance, fakes: Tensor, people: People) -> Sequence[Pair]:
    """The nearest cases, and one of each kind to see them by."""
    members, others = people.member.nonzero()[:, 0], people.one_each()

    def pair(kind: str, volume: Tensor, at: int, close: float) -> Pair:
        other = people.images[at, 0].numpy()
        return Pair(kind, volume[0].numpy(), people.cases[at].case, other, close)

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
    pairs.append(pair("held-out scan", people.images[row], near, float(found.fresh[top])))
    return pairs
