"""Does a model, or what it generates, give away the scans it was trained on?"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.config import AuditConfig
from medgan.data.manifest import Case, Manifest
from medgan.data.splits import enough_healthy
from medgan.errors import ConfigError, DataError
from medgan.evaluation.disguise import disguise
from medgan.evaluation.membership import (
    Attack,
    attack,
    by_person,
    half_width,
    outside,
    told_by_features,
    told_by_neighbours,
)
from medgan.evaluation.privacy import (
    Excess,
    closeness,
    excess,
    least_noticed,
    most_missed,
    not_authentic,
    other_people,
    similarity,
    swapped,
)
from medgan.files import write_atomic
from medgan.model import Model
from medgan.progress import counting
from medgan.report.audit import Closeness, Pair, draw_pairs, write_audit_page
from medgan.studies.contestants import Contestant
from medgan.studies.inside import inside_scores
from medgan.studies.scans import read_scans
from medgan.studies.verdicts import (
    Check,
    Verdict,
    attack_check,
    copies_check,
    disguise_check,
    outright_check,
    planted_check,
    swapped_check,
    verdict,
)

log = logging.getLogger(__name__)
REPORT, PAIRS, PAGE = "audit.json", "pairs.png", "audit.html"
FEWEST_MEMBERS, FEWEST_OTHERS, FEWEST_FAKES = 8, 20, 20
SHOWN = 4
_SCAN_CHECKS = 5
"""Checks of synthetic scans that chance can fail: they share what the level leaves."""


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
        ConfigError: E_LEAK when a scan is on both sides.
        DataError: E_SPLIT with too few scans or synthetic scans.
    """
    if len(contestant.images) < FEWEST_FAKES:
        raise DataError(
            "E_SPLIT", contestant.name, f"{len(contestant.images)} synthetic scans are too few",
            f"give at least {FEWEST_FAKES}",
        )  # fmt: skip
    people = _People.read(manifest, contestant, out)
    found = _Figures.measure(contestant.images, people, settings)
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
            where: {name: a._asdict() for name, a in of.items()} for where, of in attacks.items()
        },
        "power": _power(len(contestant.images), people, attacks, settings),
    }
    pairs = _pairs(found, contestant.images, people)
    write_atomic(out / PAIRS, draw_pairs(pairs, people.spacing), private=True)
    shown = Closeness(found.fakes, found.fresh, found.planted, found.copies.threshold)
    write_audit_page(out / PAGE, result, out / PAIRS, shown)
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    lines = [f"{name:6} {v.status}: {v.words}" for name, v in verdicts.items()]
    return result | {"lines": lines, "page": str(out / PAGE)}


@dataclass(frozen=True)
class _People:
    """The real scans, members first."""

    images: Tensor
    member: Tensor
    person: Tensor
    cases: tuple[Case, ...]
    spacing: tuple[float, float, float]

    @classmethod
    def read(cls, manifest: Manifest, contestant: Contestant, out: Path) -> "_People":
        """Those of a manifest on the generator's grid."""
        members = enough_healthy(manifest, "train", FEWEST_MEMBERS)
        others = [c for s in ("calibration", "test") for c in manifest.split(s) if c.healthy]
        both = {c.subject for c in members} & {c.subject for c in others}
        both |= {c.sha256 for c in members} & {c.sha256 for c in others}
        if both:
            raise _leak(f"{len(both)} subjects or files")
        numbers = {subject: n for n, subject in enumerate({c.subject: 0 for c in members + others})}
        person = torch.tensor([numbers[c.subject] for c in members + others])
        member = torch.arange(len(person)) < len(members)
        for side, few in ((member, FEWEST_MEMBERS), (~member, FEWEST_OTHERS)):
            if len(person[side].unique()) < few:
                what = "trained on" if few == FEWEST_MEMBERS else "held out"
                raise DataError(
                    "E_SPLIT", f"{len(person[side].unique())} people {what}", f"{few} are needed",
                    "add scans of more people",
                )  # fmt: skip
        images = read_scans(members + others, contestant.preprocessing, out).images
        voxels = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
        same = set(voxels[: len(members)]) & set(voxels[len(members) :])
        if same:
            raise _leak(f"{len(same)} scans, voxel by voxel,")
        spacing = contestant.preprocessing.spacing
        return cls(images, member, person, (*members, *others), spacing)

    @property
    def count(self) -> tuple[int, int]:
        """People trained on, and not."""
        return len(self.person[self.member].unique()), len(self.person[~self.member].unique())

    def one_each(self) -> Tensor:
        """Numbers of the first scan of every person who was not trained on."""
        firsts = {int(p): n for n, p in reversed(list(enumerate(self.person)))}
        return torch.tensor(sorted(n for n in firsts.values() if not self.member[n]))


def _leak(what: str) -> ConfigError:
    return ConfigError(
        "E_LEAK", "the two sets", f"{what} are on both sides", "hold out people never trained on"
    )


@dataclass(frozen=True)
class _Figures:
    """What similarities say, without any attack.

    Attributes:
        to_fakes: (R, N), every real scan to every fake.
        between: (R, R), real scans to each other.
        fakes, fresh, planted: closeness of fakes, of held-out scans, of planted copies.
        disguised: of disguised held-out scans.
        originals: numbers of the scans that were planted.
        copy: (N,) numbers of each fake's nearest training scan.
        traced: planted copies whose nearest training scan is their original.
    """

    to_fakes: Tensor
    between: Tensor
    fakes: Tensor
    fresh: Tensor
    planted: Tensor
    copies_made: Tensor
    originals: Tensor
    traced: int
    copies: Excess
    plain: Excess
    disguised: Excess
    outright: int
    outright_fresh: int
    nearer: Any
    authentic: Any
    not_authentic: float
    not_authentic_fresh: float

    @classmethod
    def measure(cls, fakes: Tensor, people: _People, settings: AuditConfig) -> "_Figures":
        """All similarities, and what follows from them."""
        random = torch.Generator().manual_seed(settings.seed)
        member, person = people.member, people.person
        members, others = member.nonzero()[:, 0], people.one_each()
        chosen = torch.randperm(len(members), generator=random)[: settings.planted]
        planted = disguise(people.images[members[chosen]], settings.seed)
        held = disguise(people.images[others], settings.seed + 1)
        names = ("real scans", "synthetic scans", "planted copies", "disguised held-out scans")
        found: list[Tensor] = []
        with counting("comparing") as tick:
            for number, volumes in enumerate((people.images, fakes, planted, held)):
                found.append(similarity(volumes, people.images))
                tick(number + 1, len(names))
        between, of_fakes, of_planted, of_held = found
        between = other_people(between, person, person)

        def close(similarities: Tensor, own: Tensor | None = None) -> Tensor:
            """Each without one held-out person: itself, or one drawn."""
            if own is None:
                draw = torch.randint(len(others), (len(similarities),), generator=random)
                own = person[others[draw]]
            theirs = other_people(similarities, own, person)
            return closeness(theirs[:, member], theirs[:, ~member])

        level = _shared(settings.level, _SCAN_CHECKS)
        ours, fresh = close(of_fakes), close(between[others], person[others])
        copied, disguised = close(of_planted), close(of_held, person[others])
        least = float(copied.min())
        real = of_fakes[:, member].max(dim=1).values, between[others][:, member].max(dim=1).values

        def nearer(a: Tensor, b: Tensor) -> float:
            side = (of_fakes[:, n].max(dim=1).values for n in (a, b))
            return float((next(side) > next(side)).float().mean())

        def copying(numbers: Tensor) -> float:
            known = between[numbers][:, numbers]
            return float(not_authentic(of_fakes[:, numbers], known).float().mean())

        exchanged = (member, person, level, settings.exchanges, settings.seed)
        train_only = between[members][:, members]
        return cls(
            of_fakes.T, between, ours, fresh, copied, planted, members[chosen],
            int((of_planted[:, member].argmax(dim=1) == chosen).sum()),
            excess(ours, fresh, settings.rate, level),
            excess(*real, settings.rate, level),
            excess(disguised, fresh, settings.rate, level),
            int((ours >= least).sum()), int((fresh >= least).sum()),
            swapped(nearer, *exchanged),
            swapped(lambda a, b: copying(a) - copying(b), *exchanged),
            float(not_authentic(of_fakes[:, members], train_only).float().mean()),
            float(not_authentic(between[others][:, members], train_only).float().mean()),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Every figure, no volume."""
        return {
            "near_copies": self.copies._asdict(),
            "near_copies_without_holdout": self.plain._asdict(),
            "copies": {
                "closeness_of_planted": float(self.planted.min()),
                "synthetic": self.outright,
                "held_out": self.outright_fresh,
            },
            "nearer_to_training": self.nearer._asdict(),
            "authenticity": {
                "not_authentic": self.not_authentic,
                "not_authentic_held_out": self.not_authentic_fresh,
                "beyond_held_out": self.authentic._asdict(),
            },
            "planted": {
                "copies": len(self.planted),
                "found": self.planted_found,
                "traced_to_their_original": self.traced,
                "disguised_held_out": self.disguised._asdict(),
            },
        }

    @property
    def planted_found(self) -> int:
        """Planted copies above the threshold."""
        return int((self.planted > self.copies.threshold).sum())


def _shared(level: float, checks: int) -> float:
    """Bonferroni: the level of each of several checks."""
    return 1 - (1 - level) / checks


Attacks = dict[str, dict[str, Attack]]


def _attacks(
    found: _Figures, people: _People, model: Model | None, settings: AuditConfig
) -> Attacks:
    """From outside, from inside, and without any model."""
    member, person = people.member, people.person

    def tried(scores: dict[str, Tensor], checks: int) -> dict[str, Attack]:
        level = _shared(settings.level, checks)
        sides = {
            name: [by_person(s[side], person[side]) for side in (member, ~member)]
            for name, s in scores.items()
        }
        return {name: attack(ours, theirs, level) for name, (ours, theirs) in sides.items()}

    seen = people.images[member], people.images[~member]
    controls = {
        "features": told_by_features(*seen, person, settings.seed),
        "neighbours": told_by_neighbours(
            found.between, int(member.sum()), person, settings.seed
        ),
    }  # fmt: skip
    inside: dict[str, Tensor] = {}
    if model is not None:
        with counting("looking inside") as tick:
            inside = inside_scores(model, people.images, tick)
    return {
        "outside": tried(outside(found.to_fakes), _SCAN_CHECKS),
        "inside": tried(inside, max(len(inside), 1)),
        "controls": tried(controls, len(controls)),
    }


def _verdicts(
    found: _Figures, attacks: Attacks, people: _People, fakes: int, settings: AuditConfig
) -> dict[str, Verdict]:
    members, others = people.count
    most = most_missed(found.outright, fakes, settings.level)
    scans = [
        planted_check(found.planted_found, len(found.planted)),
        disguise_check(found.disguised),
        copies_check(found.copies),
        outright_check(found.outright, fakes, found.outright_fresh, others, most),
        swapped_check(
            "nearer to training", "synthetic scans nearer to training than to held-out scans",
            found.nearer,
        ),
        swapped_check(
            "authenticity", "scans that are not authentic, beyond those for held-out scans",
            found.authentic,
        ),
        *(attack_check(f"outside, {n}", a, attacks["controls"])
          for n, a in attacks["outside"].items()),
    ]  # fmt: skip
    inside = [
        attack_check(f"inside, {n}", a, attacks["controls"]) for n, a in attacks["inside"].items()
    ]
    if not inside:
        why = "samples alone, without a model to look into"
        inside = [Check("inside", "inconclusive", why)]
    sizes = f"n = {fakes} synthetic scans, {members} people trained on and {others} held out"
    best = max((a.high for a in attacks["outside"].values()), default=1.0)
    worst = max((a.high for a in attacks["inside"].values()), default=1.0)
    return {
        "scans": verdict(
            "the synthetic scans", scans, sizes,
            f"{max(found.copies.high, 0.0):.1%} near copies, {most:.1%} copies and an AUROC of "
            f"{best:.2f}",
        ),
        "model": verdict(
            "the model itself", inside, f"{members} people trained on and {others} held out",
            f"an AUROC of {worst:.2f}",
        ),
    }  # fmt: skip


def _protocol(
    contestant: Contestant,
    people: _People,
    manifest: Manifest,
    settings: AuditConfig,
    facts: dict[str, str],
) -> dict[str, Any]:
    """Sizes, seeds and hashes that the figures depend on."""
    same = contestant.data_digest == manifest.digest
    if not same:
        log.warning(
            "%s names other scans or splits than these: members must be what it was trained on",
            contestant.name,
        )
    members, others = people.count
    return settings.model_dump(exclude={"train", "holdout", "model"}) | {
        "synthetic_scans": len(contestant.images),
        "training_scans": int(people.member.sum()),
        "training_people": members,
        "held_out_scans": int((~people.member).sum()),
        "held_out_people": others,
        "level_of_scan_checks": _shared(settings.level, _SCAN_CHECKS),
        "same_scans_and_splits": same,
        "data_digest": manifest.digest,
        "samples_sha256": hashlib.sha256(contestant.images.numpy().tobytes()).hexdigest(),
        "grid": contestant.preprocessing.model_dump(mode="json", include={"shape", "spacing"}),
        **facts,
    }


def _power(
    fakes: int, people: _People, attacks: Attacks, settings: AuditConfig
) -> dict[str, float]:
    """What could have been noticed with sets of these sizes."""
    members, others = people.count
    level = _shared(settings.level, _SCAN_CHECKS)
    within = _shared(settings.level, max(len(attacks["inside"]), 1))
    return {
        "most_copies_if_none_found": most_missed(0, fakes, settings.level),
        "least_excess_noticed": least_noticed(fakes, others, settings.rate, level),
        "auroc_half_width": half_width(members, others, level),
        "auroc_half_width_inside": half_width(members, others, within),
    }


def _pairs(found: _Figures, fakes: Tensor, people: _People) -> Sequence[Pair]:
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
    copy = int(found.planted.argsort()[len(found.planted) // 2])
    made = found.copies_made[copy]
    pairs.append(pair("planted copy", made, int(found.originals[copy]), float(found.planted[copy])))
    top = int(found.fresh.argmax())
    row = int(others[top])
    near = int(members[found.between[row, members].argmax()])
    pairs.append(pair("held-out scan", people.images[row], near, float(found.fresh[top])))
    return pairs
