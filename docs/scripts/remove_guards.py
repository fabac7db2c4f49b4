"""Removes each guard of tests/faults/guards.toml in turn: do the tests of its row notice?

    python docs/scripts/remove_guards.py --page docs/reference/guards.md
    python docs/scripts/remove_guards.py --rows 9 31 "zip bomb"

Works in a copy of the checkout. Quick tests of the row are tried first, then slow ones.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from medgan.core.tables import markdown_table

ROOT = Path(__file__).parents[2]
SECONDS = 400
"""For the tests of one row; where they end no sooner, that is noticed, too."""
_NONE = "**none**"
PAGE = """# Guards, removed

Each guard against a [fault](faults.md) was removed, one at a time, and the tests of its row were
run: {noticed} of {count} were noticed. `make guards` does it again and writes this page.

{table}
"""


def tests_of(row: object, copy: Path) -> list[str]:
    """Files with a test that carries the mark of a row."""
    mark = f"fault({row!r})".replace("'", '"')
    files = sorted((copy / "tests").rglob("test_*.py"))
    return [str(p.relative_to(copy)) for p in files if mark in p.read_text("utf-8")]


def run(copy: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of pytest; 124 where it does not end."""
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    own = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", *arguments]
    try:
        ended = subprocess.run(
            own, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return 124, "does not end"
    return ended.returncode, ended.stdout


def noticed_by(row: object, copy: Path) -> tuple[str, list[str]]:
    """The first test of a row that fails, and how to run it again; empty where all pass."""
    for marks in ("fault and not slow and not gpu", "fault and slow"):
        chosen = ["-m", marks, "--fault-row", str(row)]
        status, output = run(copy, *chosen, *tests_of(row, copy))
        if status not in (0, 5):  # 5: no tests
            failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
            test = failed[1] if failed else output[-300:]
            again = [test] if failed else tests_of(row, copy)
            return test.removeprefix("tests/"), [*chosen, *again]
    return "", []


def main() -> None:
    """Removes the guards and writes what noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", help="of these rows only")
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    listed = tomllib.loads((ROOT / "tests/faults/guards.toml").read_text("utf-8"))["guard"]
    guards = [one for one in listed if asked.rows is None or str(one["row"]) in asked.rows]
    found = []
    with TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.nii*")
        shutil.copytree(ROOT, copy, ignore=unwanted)
        for guard in guards:
            path = copy / guard["file"]
            source = path.read_text("utf-8")
            if source.count(guard["text"]) != 1:
                sys.exit(f"{guard['file']} has not one such place: {guard['text']}")
            path.write_text(source.replace(guard["text"], guard["without"]), "utf-8")
            test, again = noticed_by(guard["row"], copy)
            path.write_text(source, "utf-8")
            if test and run(copy, *again)[0]:
                sys.exit(f"{test} fails with all guards in place")
            shown = f"`{test}`" if test else _NONE
            found.append([guard["row"], guard["what"], f"`{guard['file']}`", shown])
            print(*found[-1], sep=" | ", flush=True)
    noticed = sum(one[3] != _NONE for one in found)
    table = markdown_table(["row", "guard", "in", "without it fails"], found)
    if asked.page:
        asked.page.write_text(PAGE.format(noticed=noticed, count=len(found), table=table), "utf-8")
    print(f"{noticed} of {len(found)} noticed")
    sys.exit(noticed < len(found))


if __name__ == "__main__":
    main()
