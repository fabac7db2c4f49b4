"""Verdicts of the privacy audit. None of them claims anonymity."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from medgan.evaluation.interval import Interval
from medgan.evaluation.privacy.copies import Excess, upper_bound_of_copies
from medgan.evaluation.privacy.membership import Attack, Attacks
from medgan.studies.cohort_split import CohortSplit
from medgan.studies.nearest_neighbours import LEVEL, NeighbourComparison

Status = Literal["passed", "failed", "inconclusive"]
NOT_TESTED = "none"
"""In place of a status, where there is nothing to test."""
NO_PROOF = "This is no proof of anonymity and no differential-privacy guarantee."


@dataclass(frozen=True)
class Check:
    """One check of an audit.

    Attributes:
        name: of the check.
        status: of this check alone.
        finding: the result in a sentence.
    """

    name: str
    status: Status
    finding: str


@dataclass(frozen=True)
class Verdict:
    """The result of several checks together.

    Attributes:
        status: failed if any check failed, else inconclusive if any was, else passed; `NOT_TESTED`
            without any.
        words: in a sentence or two.
        checks: all of them.
    """

    status: Status | Literal["none"]
    words: str
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


def near_check(found: Excess) -> Check:
    """Are more synthetic scans than held-out scans close to a training scan?"""
    return Check(
        "near copies", "failed" if found.share.low > 0 else "passed",
        f"{found.flagged} of {found.volumes} synthetic scans are closer to a training scan than "
        f"all but {found.expected:.1%} of held-out scans are: {_percent(found.share.value)} beyond "
        f"those ({_percent(found.share.low)} to {_percent(found.share.high)})",
    )  # fmt: skip


def copies_check(count: int, fakes: int, fresh: int, scans: int, most: float) -> Check:
    """Is any synthetic scan as close to a training scan as the median planted copy?"""
    text = f"{count} of {fakes} synthetic scans are as close to a training scan as a typical copy"
    if count and fresh:
        text += (
            f", and so are {fresh} of {scans} held-out scans: are the same subjects on both sides?"
        )
        return Check("copies", "inconclusive", text)
    return Check(
        "copies", "failed" if count else "passed", f"{text}; the true share is at most {most:.1%}"
    )


def swapped_check(name: str, what: str, found: Interval) -> Check:
    """Is a metric beyond its range with members and held-out subjects permuted?"""
    return Check(
        name, "failed" if found.value > found.high else "passed",
        f"{_percent(found.value)} {what}; with subjects permuted {_percent(found.low)} to "
        f"{_percent(found.high)}",
    )  # fmt: skip


def attack_check(name: str, found: Attack, controls: dict[str, Attack]) -> Check:
    """Does an attack find members better than controls without the model do?"""
    text = f"AUROC {_interval(found.auroc)}"
    if not found.succeeds:
        return Check(name, "passed", text)
    significant = {n: c for n, c in controls.items() if c.succeeds}
    if all(found.auroc.low > max(c.auroc.high, 1 - c.auroc.low) for c in significant.values()):
        return Check(name, "failed", text)
    return Check(name, "inconclusive", f"{text}, {_differ(significant)}")


def unless_they_differ(check: Check, controls: dict[str, Attack]) -> Check:
    """A failed check becomes inconclusive where the controls tell members from held-out scans.

    Where scanners or sites differ, synthetic scans of any generator are closer to its training
    scans.
    """
    significant = {n: c for n, c in controls.items() if c.succeeds}
    if check.status != "failed" or not significant:
        return check
    return replace(check, status="inconclusive", finding=f"{check.finding}, {_differ(significant)}")


def _differ(significant: dict[str, Attack]) -> str:
    which, control = max(significant.items(), key=lambda item: abs(item[1].auroc.value - 0.5))
    return (
        f"but controls without the model ({which}) find members as well: "
        f"{_interval(control.auroc)}; the two sets differ"
    )


def planted_check(found: int, planted: int) -> Check:
    """Does the audit find planted copies?"""
    text = f"{found} of {planted} distorted training scans hidden among them were found"
    if found == planted:
        return Check("planted copies", "passed", text)
    return Check("planted copies", "inconclusive", f"{text}; hold out more subjects")


def distortion_check(found: Excess) -> Check:
    """Do distortions alone make a held-out scan look like a copy?"""
    return Check(
        "distorted held-out scans", "inconclusive" if found.share.low > 0 else "passed",
        f"{found.flagged} of {found.volumes} were flagged; {found.expected:.1%} are by design",
    )  # fmt: skip


def verdict(of: str, checks: Sequence[Check], sizes: str, least: str) -> Verdict:
    """The verdict of several checks.

    Args:
        of: the subject of the sentence, such as `the synthetic scans`.
        checks: all of them.
        sizes: of the sets, in words.
        least: the smallest leak that they can detect, in words.
    """
    reasons = {
        status: "; ".join(f"{c.name}: {c.finding}" for c in checks if c.status == status)
        for status in ("failed", "inconclusive")
    }
    if reasons["failed"]:
        words = f"Training scans leak into {of}. {reasons['failed']}."
        return Verdict("failed", words, tuple(checks))
    if reasons["inconclusive"]:
        words = f"The audit of {of} is inconclusive. {reasons['inconclusive']}. {NO_PROOF}"
        return Verdict("inconclusive", words, tuple(checks))
    words = f"These checks of {of}, with {sizes}, found no leakage above {least}. {NO_PROOF}"
    return Verdict("passed", words, tuple(checks))


def scans_verdict(found: NeighbourComparison, attacks: Attacks, split: CohortSplit) -> Verdict:
    """The verdict on synthetic scans.

    Args:
        found: their neighbours.
        attacks: with them, and the controls.
        split: members and held-out scans.
    """
    members, others = split.count
    fakes, controls = len(found.fakes), attacks["controls"]
    most = min(1.0, 2 * upper_bound_of_copies(found.copies, fakes, LEVEL))  # half lie above
    checks = [
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
    best = max((a.auroc.high for a in attacks["black_box"].values()), default=1.0)
    return verdict(
        "the synthetic scans", checks,
        f"n = {fakes} synthetic scans, {members} training subjects and {others} held out",
        f"{max(found.near.share.high, 0.0):.1%} near copies, {most:.1%} copies and an AUROC of "
        f"{best:.2f}",
    )  # fmt: skip


def no_scans() -> Verdict:
    """In place of `scans_verdict`, for a model that draws nothing."""
    return Verdict(NOT_TESTED, "The model draws no scans, so there was nothing to test.", ())


def folder_verdict(attacks: Attacks, split: CohortSplit) -> Verdict:
    """The verdict on a model folder; inconclusive without any attack.

    Args:
        attacks: with it, and the controls.
        split: members and held-out scans.
    """
    members, others = split.count
    found = attacks["white_box"]
    checks = [attack_check(f"white-box, {n}", a, attacks["controls"]) for n, a in found.items()]
    if not checks:
        why = "there is nothing to attack: no model, or one that can score nothing"
        checks = [Check("white-box", "inconclusive", why)]
    worst = max((a.auroc.high for a in found.values()), default=1.0)
    return verdict(
        "the model itself", checks, f"{members} training subjects and {others} held out",
        f"an AUROC of {worst:.2f}",
    )  # fmt: skip


def _interval(found: Interval) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("-0.0%", "0.0%")
