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
from medgan.evaluation.privacy.membership import Attacks, auroc_half_width
from medgan.reporting.audit import Closeness, Pair, audit_page, plot_pairs
from medgan.studies.attacks import membership_attacks
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
    real_similarities,
    shared,
)
from medgan.studies.verdicts import Verdict, folder_verdict, no_scans, scans_verdict

log = logging.getLogger(__name__)
REPORT, PAIRS, PAGE = "audit.json", "pairs.png", "audit.html"
FEWEST_FAKES = 20
SHOWN = 4


def audit(
    generated: GeneratedSet,
    manifest: Manifest,
    out: Path,
    settings: AuditConfig,
    seed: int,
    facts: dict[str, str],
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Runs all checks and writes audit.json, audit.html and, of synthetic scans, pairs.png.

    A model that draws nothing is judged by the attacks on its folder alone, whatever the scope.

    Args:
        generated: synthetic scans and the model that drew them, or a model without any.
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
            members than the model was trained on.
        DataError: E_SPLIT with too few scans or synthetic scans.
    """
    if generated.draws and len(generated.images) < FEWEST_FAKES:
        raise DataError(
            "E_SPLIT", generated.name, f"{len(generated.images)} synthetic scans are too few",
            f"give at least {FEWEST_FAKES}",
        )  # fmt: skip
    if not generated.draws:
        settings = settings.model_copy(update={"scope": "model"})
    split = CohortSplit.read(manifest, generated.preprocessing, out, refuse)
    _refuse_non_members(generated, int(split.member.sum()))
    found = compare_neighbours(generated.images, split, seed) if generated.draws else None
    between = real_similarities(split) if found is None else found.between
    to_fakes = None if found is None else found.to_fakes
    attacks = membership_attacks(split, between, to_fakes, generated.model, seed)
    verdicts = {
        "scans": no_scans() if found is None else scans_verdict(found, attacks, split),
        "model": folder_verdict(attacks, split),
    }
    result = {
        "generator": generated.name,
        "scope": settings.scope,
        "verdict": _deciding(verdicts, settings.scope),
        "verdicts": {name: v.as_json() for name, v in verdicts.items()},
        "protocol": _protocol(generated, split, manifest, settings, seed, facts),
        "metrics": {} if found is None else found.as_json(),
        "attacks": {
            where: {name: a.as_json() for name, a in of.items()} for where, of in attacks.items()
        },
        "power": _power(len(generated.images), split, attacks),
    }
    shown, files = None, {}
    if found is not None:
        files[out / PAIRS] = plot_pairs(_pairs(found, generated.images, split), split.spacing)
        closeness = found.planted.closeness
        shown = Closeness(found.fakes, found.fresh, closeness, found.near.threshold)
    page = audit_page(result, files.get(out / PAIRS), shown)
    report = json.dumps(result, indent=1)
    write_together(files | {out / PAGE: page, out / REPORT: report}, private=True)
    lines = [f"{name:6} {v.status}: {v.words}" for name, v in verdicts.items()]
    return result | {"lines": lines}


def _deciding(verdicts: dict[str, Verdict], scope: str) -> str:
    """The worse of the verdicts in the scope; what was not tested does not count."""
    of = ("scans",) if scope == "scans" else ("scans", "model")
    found = {verdicts[name].status for name in of}
    return next(status for status in ("failed", "inconclusive", "passed") if status in found)


def _refuse_non_members(generated: GeneratedSet, given: int) -> None:
    """Refuses more members than there were training scans: non-members among them hide leaks.

    Raises:
        ConfigError: E_SPLITS.
    """
    known = generated.training_scans
    if known is not None and given > known:
        raise ConfigError(
            "E_SPLITS", "the two sets", f"{given} scans are given as training scans, but the "
            f"model has {known}", "give its training scans alone, by data.splits or in a folder"
        )  # fmt: skip


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
    of_scans: dict[str, Any] = {
        "count": settings.count,
        "planted": PLANTED,
        "rate": RATE,
        "synthetic_scans": len(generated.images),
        "level_of_scan_checks": shared(LEVEL, SCAN_CHECKS),
        "samples_sha256": hashlib.sha256(generated.images.numpy().tobytes()).hexdigest(),
    }
    return {
        "scope": settings.scope,
        "seed": seed,
        **(of_scans if generated.draws else {"synthetic_scans": 0}),
        "level": LEVEL,
        "permutations": PERMUTATIONS,
        "training_scans": int(split.member.sum()),
        "training_subjects": members,
        "held_out_scans": int((~split.member).sum()),
        "held_out_subjects": others,
        "members_are_its_training_scans": same,
        "data_digest": manifest.digest,
        "grid": generated.preprocessing.model_dump(mode="json", include={"shape", "spacing"}),
        **facts,
    }


def _power(fakes: int, split: CohortSplit, attacks: Attacks) -> dict[str, float]:
    """What sets of these sizes can detect."""
    members, others = split.count
    found = {}
    if fakes:
        level = shared(LEVEL, SCAN_CHECKS)
        found = {
            "most_copies_if_none_found": min(1.0, 2 * upper_bound_of_copies(0, fakes, LEVEL)),
            "least_excess_noticed": smallest_detectable_excess(fakes, others, RATE, level),
            "auroc_half_width": auroc_half_width(members, others, level),
        }
    within = shared(LEVEL, max(len(attacks["white_box"]), 1))
    return found | {"auroc_half_width_white_box": auroc_half_width(members, others, within)}


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
