"""Scans under any names that a file system takes: they work, and no name leaves the private key."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.models import save_calibrated

WORD = b"Mustermann"
"""Is in all names, so that it can be looked for."""
PRIVATE = {"private_key.csv", "manifest.json"}
"""Hold paths; their owner alone may read them."""
ODD = ["\n", "\r\n", "\t", " ", '"', "'", ",", ";", "=1+1", "-rf", "$(id)", "%s", "{x}", "\\", "*",
       "..", "#", "\u202e", "\u05d0\u05d1", "\u0645", "e\u0301", "\U0001f9e0", "\x1b[31m", "&amp;",
       "<script>", "\x7f", "\u2028"]  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), max_size=60)
raw = st.binary(max_size=40).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
odd = st.lists(st.sampled_from(ODD), max_size=20).map("".join)
part = st.one_of(texts.map(str.encode), raw, odd.map(str.encode))
long = st.integers(100, 230).map(lambda n: b"n" * n)
names = st.builds(lambda a, b: a + WORD + b, st.one_of(part, long), part).filter(
    lambda name: len(name) < 240 and not name.startswith(b".")
)
"""Hidden files are no scans."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Small scans that differ, to be linked to under other names."""
    return sorted(write_folder(tmp_path_factory.mktemp("names"), 40, labels=False).iterdir())


def named(folder: Path, scans: list[Path], drawn: list[tuple[bytes, bytes]]) -> int:
    """Copies scans into folders, under the names drawn."""
    for number, (scan, (inner, name)) in enumerate(zip(scans, drawn, strict=False)):
        place = os.path.join(os.fsencode(folder), inner) if number % 2 else os.fsencode(folder)
        os.makedirs(place, exist_ok=True)
        shutil.copy(scan, os.path.join(place, name + (b".nii.gz" if number % 3 else b".NII.gz")))
    return min(len(scans), len(drawn))


def told(out: Path, *said: str) -> list[str]:
    """Where the word is, in files, their names and what was printed."""
    found = [text for text in said if WORD.decode() in text]
    for path in out.rglob("*"):
        if WORD.decode() in str(path.relative_to(out)):
            found.append(str(path))
        if path.is_file() and path.name not in PRIVATE and WORD in path.read_bytes():
            found.append(path.name)
    return found


@pytest.mark.fault(21)
@pytest.mark.parametrize("verb", ["check", pytest.param("score", marks=pytest.mark.slow)])
def test_scans_with_any_names_work_and_their_names_stay_private(
    verb, scans, tmp_path_factory, measured, caplog
):
    fast, worked, longest = verb == "check", 0, 0
    model = [] if fast else [save_calibrated(tmp_path_factory.mktemp("model"))]

    @seed(0)
    @settings(max_examples=2 if fast else 8, database=None, deadline=None, phases=[Phase.generate])
    @given(st.lists(st.tuples(names, names), min_size=20, max_size=len(scans), unique_by=(
        lambda pair: pair[0].lower(), lambda pair: pair[1].lower())))  # fmt: skip
    def any_names(drawn):
        nonlocal worked, longest
        place = tmp_path_factory.mktemp("any")
        count = named(place / "in", scans, drawn)
        done = inside(verb, *model, place / "in", "-o", place / "out")
        assert done.returncode == 0, done.stderr
        cases = json.loads((place / "out" / "manifest.json").read_text())["cases"]
        assert len(cases) == count
        key = (place / "out" / "private_key.csv").read_bytes().decode(errors="surrogateescape")
        files = {row["file"] for row in csv.DictReader(io.StringIO(key, newline=""))}
        assert {case["images"]["image"] for case in cases} == files
        assert all(Path(file).is_file() for file in files)
        assert told(place / "out", done.stdout, done.stderr, caplog.text) == []
        worked += count
        longest = max(longest, *(len(os.fsencode(os.path.basename(file))) for file in files))
        shutil.rmtree(place)

    any_names()
    measured(
        f"{verb}: {worked} scans under any names, up to {longest} bytes, work; no name is told"
    )
