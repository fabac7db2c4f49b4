"""Which subjects train, validate, calibrate and are tested."""

import logging
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medgan.core.errors import ConfigError, DataError
from medgan.core.json_files import read_json
from medgan.data.manifest import SPLITS, Case, Manifest
from medgan.data.pseudonyms import Pseudonyms

log = logging.getLogger(__name__)
VALIDATION_SHARE = 0.1
FEWEST_VALIDATION = 5


def require_whole_subjects(manifest: Manifest) -> None:
    """Refuses a manifest that has a subject in two splits.

    Subjects of whom one scan is the other's, too, are one subject already.

    Raises:
        ConfigError: E_LEAK.
    """
    first: dict[str, str] = {}
    for case in manifest.cases:
        split = first.setdefault(case.subject, case.split)
        if split != case.split:
            raise ConfigError(
                "E_LEAK", case.subject, f"in {split} and in {case.split}, as itself or by equal "
                "voxels", "put all its scans into one split, or run medgan check again",
            )  # fmt: skip


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
    require_enough(cases, split, fewest)
    return cases


def require_enough(cases: Sequence[Case], split: str, fewest: int) -> None:
    """Refuses too few healthy cases of a split.

    Raises:
        DataError: E_SPLIT.
    """
    if len(cases) < fewest:
        raise DataError(
            "E_SPLIT", f"{len(cases)} healthy scans in {split}", f"{fewest} are needed",
            "add healthy scans or set data.fractions",
        )  # fmt: skip


def with_drawn_splits(
    manifest: Manifest, fractions: tuple[float, float, float, float], seed: int
) -> Manifest:
    """Draws train, validation, calibration and test by subject.

    A subject keeps all its scans in one split. A subject with any scan that is not healthy
    goes to test as a whole.

    Args:
        manifest: with `healthy` set.
        fractions: shares of the healthy subjects; they are normalised.
        seed: of the drawing; the order of the files does not matter.
    """
    subjects = _shuffled(manifest.cases, manifest.unhealthy_subjects, seed)
    bounds = np.round(np.cumsum(fractions) / sum(fractions) * len(subjects)).astype(int)
    splits = {
        subject: SPLITS[int(np.searchsorted(bounds, number, side="right"))]
        for number, subject in enumerate(subjects)
    }
    cases = (replace(c, split=splits.get(c.subject, "test")) for c in manifest.cases)
    return replace(manifest, cases=tuple(cases))


def _shuffled(cases: Iterable[Case], without: Container[str], seed: int) -> list[str]:
    """Subjects in an order that depends on the content of their scans and the seed alone."""
    first_hash: dict[str, str] = {}  # pseudonyms differ from site to site
    for case in sorted(cases, key=lambda c: c.sha256):
        first_hash.setdefault(case.subject, case.sha256)
    subjects = [subject for subject in first_hash if subject not in without]
    np.random.default_rng(seed).shuffle(subjects)
    return subjects


def with_given_splits(
    manifest: Manifest, splits: dict[str, Iterable[str]], pseudonyms: Pseudonyms, seed: int = 0
) -> Manifest:
    """Puts each subject into the split that lists it; subjects in no list are dropped.

    Cases that are not healthy are only tested, wherever their subject is listed. Without a list
    validation, about a tenth of the training subjects validate.

    Args:
        manifest: of the data set.
        splits: train, validation, calibration and test to subjects, as the data set spells them
            or as pseudonyms.
        pseudonyms: the ones the manifest was made with.
        seed: of drawing validation subjects.

    Raises:
        ConfigError: E_LEAK when a subject stands in two lists, E_SPLITS when none is found.
    """
    listed: dict[str, str] = {}
    known = {case.subject for case in manifest.cases}
    for split in SPLITS:
        for subject in splits.get(split, ()):
            key = subject if subject in known else pseudonyms.subject(subject)
            if listed.setdefault(key, split) != split:
                raise ConfigError(
                    "E_LEAK", key, f"listed in {listed[key]} and in {split}", "keep one"
                )
    found = known & listed.keys()
    if len(found) < len(listed):
        log.warning("%d of %d subjects of data.splits are among the scans", len(found), len(listed))
    if not found:
        raise ConfigError(
            "E_SPLITS", "data.splits", "no listed subject is among the scans",
            "list subjects as the data set names them",
        )  # fmt: skip
    listed |= dict.fromkeys(manifest.unhealthy_subjects & listed.keys(), "test")
    cases = (replace(c, split=listed[c.subject]) for c in manifest.cases if c.subject in listed)
    given = replace(manifest, cases=tuple(cases))
    return given if "validation" in splits else with_validation(given, seed)


def with_validation(manifest: Manifest, seed: int) -> Manifest:
    """Takes a tenth of the training subjects for validation, and says so.

    At least five, but never more than a quarter; below four subjects none.

    Args:
        manifest: with splits, none of them validation.
        seed: of the drawing; the order of the files does not matter.
    """
    subjects = _shuffled(manifest.split("train"), (), seed)
    count = min(max(round(VALIDATION_SHARE * len(subjects)), FEWEST_VALIDATION), len(subjects) // 4)
    chosen = set(subjects[:count])
    if chosen:
        log.warning(
            "no validation list is given: %d of %d training subjects are used for validation, not "
            "for training; list subjects under validation in data.splits to choose them, or none "
            "to train on all", count, len(subjects),
        )  # fmt: skip
    cases = (replace(c, split="validation") if c.subject in chosen else c for c in manifest.cases)
    return replace(manifest, cases=tuple(cases))


def in_both(ours: Iterable[Case], theirs: Iterable[Case]) -> list[Case]:
    """Those of the second whose subject, file or voxels are among the first."""

    def marks(case: Case) -> set[str]:
        return {case.subject, case.sha256, *case.voxels.values()}

    known = {mark for case in ours for mark in marks(case)}
    return [case for case in theirs if known & marks(case)]


def joined(train: Manifest, holdout: Manifest) -> Manifest:
    """Two data sets as one, each in its own split.

    Raises:
        ConfigError: E_LEAK when a subject, a file or the same voxels are in both.
    """
    if both := len(in_both(train.cases, holdout.cases)):
        raise ConfigError(
            "E_LEAK", "the two sets",
            f"{both} scans of the second are of subjects, files or voxels of the first",
            "hold out subjects never trained on; give different subjects different names",
        )  # fmt: skip
    refusals = (*train.refusals, *holdout.refusals)
    return Manifest((*train.cases, *holdout.cases), refusals, train.licence)


def with_wanted(manifest: Manifest, wanted: Manifest) -> Manifest:
    """Scans to be changed and, marked, scans of the site whose style is wanted.

    Raises:
        ConfigError: E_LEAK when a subject, a file or the same voxels are in both; E_CHANNEL when
            their channels differ.
    """
    if both := len(in_both(manifest.cases, wanted.cases)):
        raise ConfigError(
            "E_LEAK", "translate.target_data",
            f"{both} of its scans are of subjects, files or voxels of data.source",
            "leave them out of one; give different subjects different names",
        )  # fmt: skip
    if manifest.channels != wanted.channels:
        raise ConfigError(
            "E_CHANNEL", "translate.target_data",
            f"has {', '.join(wanted.channels)}, data.source has {', '.join(manifest.channels)}",
            "set data.channels, or give both sites in one layout",
        )  # fmt: skip
    marked = (replace(case, wanted=True) for case in wanted.cases)
    return replace(
        manifest,
        cases=(*manifest.cases, *marked),
        refusals=(*manifest.refusals, *wanted.refusals),
        series=(*manifest.series, *wanted.series),
    )


def read_splits(path: Path, source: Path) -> dict[str, Iterable[str]]:
    """Reads `{train: [...], validation: [...], calibration: [...], test: [...]}`.

    Where one file serves several data sets, that stands under the name of the set's folder. The
    lists validation and calibration may be missing; without the latter no scan calibrates.

    Raises:
        ConfigError: E_SPLITS.
    """
    try:
        values = read_json(path)
        folder = source.resolve() if source.is_dir() else source.resolve().parent
        lists = values.get(folder.name) or values
        lists = {split: lists[split] for split in SPLITS if split in lists}
    except OSError:
        raise ConfigError("E_SPLITS", str(path), "cannot be read", "check the path") from None
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(
            "E_SPLITS", path.name, "is no JSON of lists", "correct the file"
        ) from None
    missing = [split for split in ("train", "test") if split not in lists]
    wrong = [
        split
        for split, subjects in lists.items()
        if not isinstance(subjects, list) or not all(isinstance(name, str) for name in subjects)
    ]
    if missing or wrong:
        raise ConfigError(
            "E_SPLITS", path.name, f"no list {' and no list '.join(missing or wrong)}",
            "give each a list of subjects in quotes; it may be empty",
        )  # fmt: skip
    return lists


def sections_of(path: Path) -> dict[str, dict[str, list[str]]]:
    """The lists of a file that serves several data sets, by the names of their folders.

    Args:
        path: a file that `read_splits` reads.
    """
    values = read_json(path)
    return {name: lists for name, lists in values.items() if isinstance(lists, dict)}
