"""Splits: by subject, drawn or given, with validation taken from train where nobody gives it."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan.core.errors import ConfigError
from medgan.data.manifest import SPLITS, Case, Manifest, Refusal
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import (
    joined,
    read_splits,
    require_whole_subjects,
    with_drawn_splits,
    with_given_splits,
    with_health,
    with_validation,
)

PSEUDONYMS = Pseudonyms(b"s" * 32)


def a_case(number: int, subject: str, split: str = "test", **covariates: str) -> Case:
    return Case(
        case=f"c-{number}", subject=subject, images={"image": f"/x/{number}.nii"}, label=None,
        hashes={"image": f"{number:064x}"}, label_sha256=None, shape=(4, 5, 6),
        spacing=(1.0, 1.0, 1.0), labels=(), covariates=covariates, split=split,
    )  # fmt: skip


def test_the_digest_depends_on_content_and_splits_but_not_on_names_or_order() -> None:
    cases = tuple(a_case(n, f"s{n}") for n in range(3))
    digest = Manifest(cases).digest
    assert Manifest(cases[::-1]).digest == digest
    assert Manifest((a_case(0, "other"), *cases[1:])).digest == digest
    assert Manifest(cases[:2]).digest != digest
    assert Manifest((a_case(0, "s0", split="train"), *cases[1:])).digest != digest


def test_health_is_all_covariates_at_a_wanted_value() -> None:
    cases = (
        a_case(0, "a", diagnosis="control", scanner="A"),
        a_case(1, "b", diagnosis="AD", scanner="A"),
        a_case(2, "c", diagnosis="control", scanner="B"),
        a_case(3, "d", scanner="A"),
    )
    wanted = {"diagnosis": ["control", "none"], "scanner": ["A"]}
    marked = with_health(Manifest(cases), wanted)
    assert [case.healthy for case in marked.cases] == [True, False, False, False]
    with pytest.raises(ConfigError, match="E_COVARIATE"):
        with_health(Manifest(cases), {"diagnose": ["control"]})


scan_lists = st.lists(
    st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60
)  # (subject, healthy) of each scan
shares = st.tuples(*[st.floats(0.01, 5.0)] * 4)


def data_set(scans: list[tuple[int, bool]]) -> Manifest:
    cases = (
        a_case(n, f"s-{subject}", dx="yes" if healthy else "no")
        for n, (subject, healthy) in enumerate(scans)
    )
    return with_health(Manifest(tuple(cases)), {"dx": ["yes"]})


@pytest.mark.fault(18)
@given(scan_lists, shares, st.integers(0, 5))
def test_drawn_splits_keep_subjects_whole_and_the_unhealthy_out_of_training(
    scans: list[tuple[int, bool]], fractions: tuple[float, float, float, float], seed: int
) -> None:
    manifest = with_drawn_splits(data_set(scans), fractions, seed)
    assert len(manifest.cases) == len(scans)
    subjects = {s: {c.subject for c in manifest.split(s)} for s in SPLITS}
    assert sum(map(len, subjects.values())) == len({subject for subject, _ in scans})
    assert all(c.healthy for s in SPLITS[:3] for c in manifest.split(s))
    unhealthy = {c.subject for c in manifest.cases if not c.healthy}
    assert unhealthy <= subjects["test"]
    sizes = [len(subjects[s] - unhealthy) for s in SPLITS]
    wanted = np.array(fractions) / sum(fractions) * sum(sizes)
    assert np.abs(sizes - wanted).max() <= 1 + 1e-9


@given(scan_lists, shares, st.integers(0, 5), st.randoms(use_true_random=False))
def test_drawn_splits_do_not_depend_on_the_order_of_files(
    scans: list[tuple[int, bool]], fractions: tuple[float, float, float, float], seed: int, random
) -> None:
    manifest = data_set(scans)
    mixed = list(manifest.cases)
    random.shuffle(mixed)
    one = with_drawn_splits(manifest, fractions, seed)
    other = with_drawn_splits(Manifest(tuple(mixed)), fractions, seed)
    assert {c.case: c.split for c in one.cases} == {c.case: c.split for c in other.cases}


@pytest.mark.fault(18)
@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_drawn_split_divides_a_subject(count: int, measured) -> None:
    rng = np.random.default_rng(0)
    for seed in range(count):
        subjects = rng.integers(0, rng.integers(2, 40), rng.integers(2, 60))
        manifest = data_set([(int(subject), rng.random() < 0.8) for subject in subjects])
        drawn = with_drawn_splits(manifest, tuple(rng.uniform(0.01, 1, 4)), seed)
        require_whole_subjects(drawn)
        splits = defaultdict(set)
        for case in drawn.cases:
            splits[case.subject].add(case.split)
        assert {len(of) for of in splits.values()} == {1}
    measured(f"{count:,} random splits of random data sets: no subject in two")


@pytest.mark.fault(18)
@pytest.mark.parametrize("other", SPLITS[1:])
def test_a_manifest_with_a_subject_in_two_splits_is_a_leak(other: str) -> None:
    cases = (a_case(0, "s-1", "train"), a_case(1, "s-2", other), a_case(2, "s-1", other))
    with pytest.raises(ConfigError, match=f"E_LEAK s-1: in train and in {other}"):
        require_whole_subjects(Manifest(cases))
    require_whole_subjects(Manifest(cases[:2]))


def test_another_seed_draws_other_splits() -> None:
    manifest = data_set([(n, True) for n in range(31)])
    drawn = [with_drawn_splits(manifest, (0.6, 0.1, 0.15, 0.15), seed) for seed in (0, 1)]
    assert drawn[0].split("test") != drawn[1].split("test")


def named(*subjects: str) -> Manifest:
    cases = (a_case(n, PSEUDONYMS.subject(name)) for n, name in enumerate(subjects))
    return Manifest(tuple(cases), (Refusal("c-x", "E_NAN", "what", "remedy"),))


def test_given_splits_place_subjects_and_drop_the_unlisted() -> None:
    splits = {"train": ["a"], "validation": [], "calibration": ["b"], "test": ["c", "not there"]}
    manifest = with_given_splits(named("a", "a", "b", "c", "d"), splits, PSEUDONYMS)
    assert [c.split for c in manifest.cases] == ["train", "train", "calibration", "test"]
    assert len(manifest.refusals) == 1


@pytest.mark.fault(18)
def test_a_subject_in_two_lists_is_a_leak() -> None:
    with pytest.raises(ConfigError, match="E_LEAK") as caught:
        with_given_splits(named("jane"), {"train": ["jane"], "test": ["jane"]}, PSEUDONYMS)
    assert "jane" not in str(caught.value)


def test_splits_are_read_flat_or_under_the_name_of_the_folder(tmp_path: Path) -> None:
    lists = {"train": ["a"], "calibration": ["b"], "test": []}
    path, source = tmp_path / "splits.json", tmp_path / "hippocampus"
    source.mkdir()
    (source / "a.nii.gz").touch()
    for values in (lists, {"hippocampus": lists, "other": {}}):
        path.write_text(json.dumps(values))
        assert read_splits(path, source) == lists
        assert read_splits(path, source / "a.nii.gz") == lists


def test_a_list_of_scans_that_calibrate_may_be_missing(tmp_path: Path) -> None:
    lists = {"train": ["a"], "validation": [], "test": ["c"]}
    (tmp_path / "splits.json").write_text(json.dumps(lists))
    given = read_splits(tmp_path / "splits.json", tmp_path)
    manifest = with_given_splits(named("a", "c"), given, PSEUDONYMS)
    assert [case.split for case in manifest.cases] == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON of lists"),
        ("[]", "is no JSON of lists"),
        ("{}", "no list train and no list test"),
        ('{"train": [], "calibration": []}', "no list test"),
        ('{"train": "a", "calibration": [], "test": []}', "no list train"),
        ('{"train": ["a"], "calibration": [1], "test": []}', "no list calibration"),
        ('{"other": {}}', "no list train"),
    ],
)
def test_broken_splits_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"E_SPLITS splits\.json: {message}"):
        read_splits(tmp_path / "splits.json", tmp_path)
    with pytest.raises(ConfigError, match=r"E_SPLITS.*missing\.json: cannot be read"):
        read_splits(tmp_path / "missing.json", tmp_path)


def splits_of(count: int, scans: int = 1, **more: list[str]) -> Manifest:
    """A data set with `count` subjects that are listed to train, and two others."""
    names = [f"p{n}" for n in range(count)]
    splits = {"train": names, "calibration": ["c"], "test": ["t"], **more}
    return with_given_splits(named(*(n for n in [*names, "c", "t"] for _ in range(scans))), splits,
                             PSEUDONYMS)  # fmt: skip


@pytest.mark.parametrize(
    ("count", "validation"),
    [(0, 0), (1, 0), (3, 0), (4, 1), (10, 2), (20, 5), (50, 5), (60, 6), (120, 12)],
)
def test_validation_is_taken_from_train_by_subject_and_said(count, validation, caplog) -> None:
    manifest = splits_of(count, scans=2)
    taken = {case.subject for case in manifest.split("validation")}
    left = {case.subject for case in manifest.split("train")}
    assert (len(taken), len(left)) == (validation, count - validation)
    assert not taken & left
    assert len(manifest.split("validation")) == 2 * validation
    assert len(manifest.split("calibration")) == len(manifest.split("test")) == 2
    said = f"{validation} of {count} training subjects are used for validation"
    assert (said in caplog.text) == bool(validation)


def test_a_list_of_validation_subjects_is_kept_even_if_it_is_empty(caplog) -> None:
    manifest = splits_of(20, validation=[])
    assert not manifest.split("validation")
    assert len(manifest.split("train")) == 20
    names = [f"p{n}" for n in range(18)]
    manifest = splits_of(20, train=names, validation=["p18", "p19"])
    assert [len(manifest.split(s)) for s in SPLITS] == [18, 2, 1, 1]
    assert not caplog.text


def test_the_same_subjects_validate_whatever_the_order_of_files_and_the_site() -> None:
    manifest = splits_of(40)
    taken = {case.sha256 for case in with_validation(manifest, 3).split("validation")}
    turned = replace(
        manifest, cases=tuple(replace(c, subject=f"x{c.subject}") for c in manifest.cases[::-1])
    )
    assert {case.sha256 for case in with_validation(turned, 3).split("validation")} == taken
    assert {case.sha256 for case in with_validation(manifest, 4).split("validation")} != taken


@pytest.mark.fault(18)
def test_data_sets_that_share_voxels_are_not_joined() -> None:
    ours, theirs = (
        Manifest((replace(a_case(n, f"s{n}"), voxels={"image": "same"}),)) for n in (1, 2)
    )
    with pytest.raises(ConfigError, match="E_LEAK"):
        joined(ours, theirs)
    other = Manifest((replace(theirs.cases[0], voxels={"image": "other"}),))
    assert len(joined(ours, other).cases) == 2
