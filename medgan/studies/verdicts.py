"""From an audit's figures to verdicts in words; none of them claims anonymity."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from medgan.evaluation.interval import Interval
from medgan.evaluation.privacy.copies import Excess
from medgan.evaluation.privacy.membership import Attack

Status = Literal["passed", "failed", "inconclusive"]
NO_PROOF = "This is no proof of anonymity and no differential-privacy guarantee."


@dataclass(frozen=True)
class Check:
    """One question of an audit and its answer.

    Attributes:
        name: what was looked at.
        status: of this check alone.
        finding: the figures in a sentence.
    """

    name: str
    status: Status
    finding: str


@dataclass(frozen=True)
class Verdict:
    """Whether something may leave, as far as these checks go.

    Attributes:
        status: failed where a check failed, else inconclusive where one was, else passed.
        words: in a sentence or two.
        checks: all of them.
    """

    status: Status
    words: str
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, object]:
        """For the record."""
        return asdict(self)


def near_check(found: Excess) -> Check:
    """Are more volumes near to training scans than fresh scans are?"""
    return Check(
        "near copies", "failed" if found.share.low > 0 else "passed",
        f"{found.flagged} of {found.volumes} synthetic scans are closer to a training scan than "
        f"all but {found.expected:.1%} of fresh scans are: {_percent(found.share.value)} beyond "
        f"those ({_percent(found.share.low)} to {_percent(found.share.high)})",
    )  # fmt: skip


def copies_check(count: int, fakes: int, fresh: int, scans: int, most: float) -> Check:
    """Is any volume as near to a training scan as half of the planted copies are?"""
    text = f"{count} of {fakes} synthetic scans are as close to a training scan as a typical copy"
    if count and fresh:
        text += f", and so are {fresh} of {scans} held-out scans: the same people on both sides?"
        return Check("copies", "inconclusive", text)
    return Check("copies", "failed" if count else "passed", f"{text}; at most {most:.1%} can be")


def swapped_check(name: str, what: str, found: Interval) -> Check:
    """Is a figure beyond what it would be if membership meant nothing?"""
    return Check(
        name, "failed" if found.value > found.high else "passed",
        f"{_percent(found.value)} {what}; with people dealt anew {_percent(found.low)} to "
        f"{_percent(found.high)}",
    )  # fmt: skip


def attack_check(name: str, found: Attack, controls: dict[str, Attack]) -> Check:
    """Does an attack tell members from others, better than can be told without the model?"""
    text = f"AUROC {_interval(found.auroc)}"
    if not found.tells:
        return Check(name, "passed", text)
    loud = {n: c for n, c in controls.items() if c.tells}
    if all(found.auroc.low > max(c.auroc.high, 1 - c.auroc.low) for c in loud.values()):
        return Check(name, "failed", text)
    return Check(name, "inconclusive", f"{text}, {_differ(loud)}")


def unless_they_differ(check: Check, controls: dict[str, Attack]) -> Check:
    """A check that compares with held-out scans, which are no floor where they are of other kind.

    Of scanners or sites that differ, every honest generator's scans are nearer to those it
    learned from.
    """
    loud = {n: c for n, c in controls.items() if c.tells}
    if check.status != "failed" or not loud:
        return check
    return replace(check, status="inconclusive", finding=f"{check.finding}, {_differ(loud)}")


def _differ(loud: dict[str, Attack]) -> str:
    which, control = max(loud.items(), key=lambda item: abs(item[1].auroc.value - 0.5))
    return (
        f"but without the model ({which}) members can be told as well: "
        f"{_interval(control.auroc)}; the two sets differ"
    )


def planted_check(found: int, planted: int) -> Check:
    """Would the audit have found copies?"""
    text = f"{found} of {planted} disguised training scans hidden among them were found"
    if found == planted:
        return Check("planted copies", "passed", text)
    return Check("planted copies", "inconclusive", f"{text}; hold out more people")


def disguise_check(found: Excess) -> Check:
    """Does a disguise alone make a scan look like a copy?"""
    return Check(
        "disguised held-out scans", "inconclusive" if found.share.low > 0 else "passed",
        f"{found.flagged} of {found.volumes} were flagged; {found.expected:.1%} are by design",
    )  # fmt: skip


def verdict(of: str, checks: Sequence[Check], sizes: str, least: str) -> Verdict:
    """What the checks say together.

    Args:
        of: what they are about, such as `the synthetic scans`.
        checks: all that count.
        sizes: of the sets, in words.
        least: the smallest leak that they would have noticed, in words.
    """
    reasons = {
        status: "; ".join(f"{c.name}: {c.finding}" for c in checks if c.status == status)
        for status in ("failed", "inconclusive")
    }
    if reasons["failed"]:
        words = f"Training scans show in {of}. {reasons['failed']}."
        return Verdict("failed", words, tuple(checks))
    if reasons["inconclusive"]:
        words = f"Nothing can be said of {of}. {reasons['inconclusive']}. {NO_PROOF}"
        return Verdict("inconclusive", words, tuple(checks))
    words = f"These checks of {of}, with {sizes}, found no leakage above {least}. {NO_PROOF}"
    return Verdict("passed", words, tuple(checks))


def _interval(found: Interval) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("-0.0%", "0.0%")
