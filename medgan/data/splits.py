"""Who trains, who calibrates, who is tested: always by subject."""

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from medgan.core.errors import ConfigError, DataError
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.pseudonyms import Pseudonyms

log = logging.getLogger(__name__)


def with_health(manifest: Manifest, healthy: dict[str, list[str]]) -> Manifest:
    """Marks as healthy the cases whose covariates all have one of the given values.

    Raises:
        ConfigError: E_COVARIATE when no case has such a column.
    """
    for column in healthy:
        if not any(column in case.covariates for case in manifest.cases):
            raise ConfigError(
                "E_COVARIATE", f"data.healthy.{column}", "no scan has this covariate",
                "name a column of the CSV or participants.tsv",
            )  # fmt: skip
    cases = (
        replace(c, healthy=all(c.covariates.get(k) in values for k, values in healthy.items()))
        for c in manifest.cases
    )
    return replace(manifest, cases=tuple(cases))


def enough_healthy(manifest: Manifest, split: str, fewest: int) -> list[Case]:
    """The healthy cases of a split.

    Raises:
        DataError: E_SPLIT when there are fewer than `fewest`.
    """
    cases = [case for case in manifest.split(split) if case.healthy]
    if len(cases) < fewest:
        raise DataError(
            "E_SPLIT", f"{len(cases)} healthy scans in {split}", f"{fewest} are needed",
            "add healthy scans or set data.fractions",
        )  # fmt: skip
    return cases


def with_drawn_splits(
    manifest: Manifest, fractions: tuple[float, float, float], seed: int
) -> Manifest:
    """Draws train, calibration and test by subject; who is not healthy is only tested.

    A subject keeps all its scans in one split. A subject with any scan that is not healthy
    goes to test as a whole.

    Args:
        manifest: with `healthy` set.
        fractions: shares of the healthy subjects; they are normalised.
        seed: of the drawing; the order of the files does not matter.
    """
    sick = manifest.sick_subjects
    # Ordered by content, because pseudonyms differ from site to site.
    first_hash: dict[str, str] = {}
    for case in sorted(manifest.cases, key=lambda c: c.sha256):
        first_hash.setdefault(case.subject, case.sha256)
    subjects = [subject for subject in first_hash if subject not in sick]
    np.random.default_rng(seed).shuffle(subjects)
    bounds = np.round(np.cumsum(fractions) / sum(fractions) * len(subjects)).astype(int)
    rank = {subject: number for number, subject in enumerate(subjects)}

    def split_of(case: Case) -> str:
        if case.subject in sick:
            return "test"
        return SPLITS[int(np.searchsorted(bounds, rank[case.subject], side="right"))]

    return replace(manifest, cases=tuple(replace(c, split=split_of(c)) for c in manifest.cases))


def with_given_splits(
    manifest: Manifest, splits: dict[str, Iterable[str]], pseudonyms: Pseudonyms
) -> Manifest:
    """Puts each subject where a list says; subjects in no list are dropped.

    Cases that are not healthy are only tested, wherever their subject is listed.

    Args:
        manifest: of the data set.
        splits: train, calibration and test to subjects, as the data set spells them or as
            pseudonyms.
        pseudonyms: the ones the manifest was made with.

    Raises:
        ConfigError: E_LEAK when a subject stands in two lists, E_SPLITS when none is found.
    """
    place: dict[str, str] = {}
    known = {case.subject for case in manifest.cases}
    for split in SPLITS:
        for subject in splits.get(split, ()):
            key = subject if subject in known else pseudonyms.subject(subject)
            if place.setdefault(key, split) != split:
                raise ConfigError(
                    "E_LEAK", key, f"listed in {place[key]} and in {split}", "keep one"
                )
    found = known & place.keys()
    if len(found) < len(place):
        log.warning("%d of %d subjects of data.splits are among the scans", len(found), len(place))
    if not found:
        raise ConfigError(
            "E_SPLITS", "data.splits", "no listed subject is among the scans",
            "list subjects as the data set names them",
        )  # fmt: skip
    place |= dict.fromkeys(manifest.sick_subjects & place.keys(), "test")
    kept = (replace(c, split=place[c.subject]) for c in manifest.cases if c.subject in place)
    return replace(manifest, cases=tuple(kept))


def in_both(ours: Iterable[Case], theirs: Iterable[Case]) -> list[Case]:
    """Those of the second whose subject or file is among the first."""
    known = {name for case in ours for name in (case.subject, case.sha256)}
    return [case for case in theirs if known & {case.subject, case.sha256}]


def joined(train: Manifest, holdout: Manifest) -> Manifest:
    """Two data sets as one, each in its own split.

    Raises:
        ConfigError: E_LEAK when a subject or a file is in both.
    """
    if both := len(in_both(train.cases, holdout.cases)):
        raise ConfigError(
            "E_LEAK", "the two sets", f"{both} scans of the second are of subjects or files of the "
            "first",
            "hold out people never trained on; name different people differently",
        )  # fmt: skip
    refusals = (*train.refusals, *holdout.refusals)
    return Manifest((*train.cases, *holdout.cases), refusals, train.licence)


def read_splits(path: Path, source: Path) -> dict[str, Iterable[str]]:
    """Reads `{train: [...], calibration: [...], test: [...]}`.

    Where one file serves several data sets, that stands under the name of the set's folder.

    Raises:
        ConfigError: E_SPLITS.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise ConfigError("E_SPLITS", str(path), "cannot be read", "check the path") from None
    try:
        values = json.loads(text)
        folder = source.resolve() if source.is_dir() else source.resolve().parent
        return {split: list((values.get(folder.name) or values)[split]) for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            "E_SPLITS", path.name, "no lists train, calibration and test", "mend the file"
        ) from None
