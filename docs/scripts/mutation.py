"""Mutation score: lines of a module are changed, one at a time; do its tests notice?

python docs/scripts/mutation.py [losses maps calibration volume checks] -o mutation.json
python docs/scripts/mutation.py losses --again mutation.json -o again.json  # after adding tests

Needs the extra `mutation` (cosmic-ray, whose operators are used) and Linux or macOS. Mutants are
run in forks of a process that has imported everything but medgan, in a copy of the checkout. Of
cosmic-ray's operators those are taken that make likely mistakes: arithmetic and comparisons are
exchanged for their neighbours, numbers move by one, conditions are negated, loops and decorators
dropped. Strings are left alone, and so are annotations. The quickest tests come first, and the
first that fails ends those of a mutant.
"""

import argparse
import ast
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
_QUICK = "not bomb and not random_damage and not thousandfold and not unpack_so_far"
TARGETS = {
    "losses": ("medgan/networks/losses.py", ["tests/networks/test_losses.py"]),
    "maps": ("medgan/anomaly/maps.py", ["tests/anomaly/test_maps.py"]),
    "calibration": ("medgan/anomaly/calibration.py", ["tests/anomaly/test_calibration.py"]),
    "volume": ("medgan/core/volume.py", ["tests/core/test_volume.py", "tests/core/test_nifti.py"]),
    "checks": (
        "medgan/data/checks.py",
        ["tests/data/test_checked_scan.py", "tests/data/test_checks.py", "-k", _QUICK],
    ),
}
"""Module, and arguments of pytest."""
OPERATORS = (
    *("Binary:Add_Sub", "Binary:Sub_Add", "Binary:Mul_Div", "Binary:Div_Mul", "Binary:Pow_Mul"),
    *("Binary:FloorDiv_Mul", "Binary:Mod_Add", "Binary:BitAnd_BitOr", "Binary:BitOr_BitAnd"),
    *("Comparison:Eq_NotEq", "Comparison:NotEq_Eq", "Comparison:Lt_LtE", "Comparison:Lt_GtE"),
    *("Comparison:LtE_Lt", "Comparison:LtE_Gt", "Comparison:Gt_GtE", "Comparison:Gt_LtE"),
    *("Comparison:GtE_Gt", "Comparison:GtE_Lt", "Comparison:Is_IsNot", "Comparison:IsNot_Is"),
    *("Unary:Delete_USub", "Unary:Delete_Invert", "Unary:Delete_Not"),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
)
OPTIONS = (
    "-x", "-q", "-n0", "-p", "no:cacheprovider", "--no-header", "--hypothesis-seed=0",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
SECONDS = 120
"""Of processor time for the tests of one mutant; one that takes longer is noticed."""


def operators() -> Iterator[tuple[str, object]]:
    """Names and instances."""
    from cosmic_ray.plugins import get_operator

    for name in OPERATORS:
        kind, _, change = name.rpartition(":")
        full = f"core/Replace{kind}Operator_{change}" if kind else f"core/{change}"
        yield change, get_operator(full)()


def mutants(source: str) -> Iterator[tuple[str, int, str, str]]:
    """Operator, line, the line afterwards and the source of each mutant that compiles."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    left_alone = annotations(source)
    before = source.splitlines()
    for name, operator in operators():
        places = [
            start for node in ast_nodes(get_ast(source))
            for start, _ in operator.mutation_positions(node)
        ]  # fmt: skip
        for occurrence, (line, column) in enumerate(places):
            if any(begin <= (line, column) < end for begin, end in left_alone):
                continue
            changed = mutate_code(source, operator, occurrence)
            if changed is None or changed == source:
                continue
            with suppress(SyntaxError):
                compile(changed, "mutant", "exec")
                after = changed.splitlines()
                other = [b for a, b in zip(before, after, strict=False) if a != b] or after[-1:]
                yield name, line, other[0].strip(), changed


def annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where types are written."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                begin, end = (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)
                found.append((begin, end))
    return found


class QuickestFirst:
    """A plugin of pytest: tests run in the order of their seconds in an earlier run."""

    def __init__(self, seconds: Path) -> None:
        """Takes the file of their seconds, which is written at the end where it is missing."""
        self.file = seconds
        self.known = json.loads(seconds.read_text()) if seconds.exists() else {}
        self.found: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list) -> None:
        """Puts them in order."""
        items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: object) -> None:
        """Adds the seconds of one part of a test."""
        name = str(getattr(report, "nodeid", ""))
        self.found[name] = self.found.get(name, 0.0) + float(getattr(report, "duration", 0.0))

    def pytest_sessionfinish(self) -> None:
        """Writes the seconds of a first run."""
        if not self.known:
            self.file.write_text(json.dumps(self.found))


def tested(tests: list[str], seconds_of_tests: Path) -> tuple[int, float]:
    """Exit status of pytest in a fork, and its seconds of processor time."""
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if not child:
        import pytest

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os._exit(int(pytest.main([*OPTIONS, *tests], [QuickestFirst(seconds_of_tests)])))
    ended = 0
    deadline = time.monotonic() + 10 * SECONDS
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - started.ru_utime - started.ru_stime
    return os.waitstatus_to_exitcode(status), seconds


def score(module: str, tests: list[str], before: dict | None = None) -> dict[str, object]:
    """How many mutants of a module its tests notice, and the lines of those that they do not.

    Args:
        module: path of its source.
        tests: arguments of pytest.
        before: an earlier result of the same source, after which tests were only added: no mutant
            that was noticed is tried again.
    """
    path = Path(module)
    source = path.read_text("utf-8")
    order = Path(f"seconds_of_{path.stem}.json")
    status, seconds = tested(tests, order)
    if status:
        raise SystemExit(f"{module}: its tests fail without any change")
    print(f"{module}: {seconds:.1f} s of processor time for its tests", flush=True)
    survivors, count = [], 0
    try:
        for name, line, after, changed in mutants(source):
            count += 1
            mutant = {"line": line, "operator": name, "becomes": after}
            if before and mutant not in before["survivors"]:
                continue
            path.write_text(changed, "utf-8")
            status, _ = tested(tests, order)
            if not status:
                survivors.append(mutant)
                print(f"  {module}:{line} {name}: {after}", flush=True)
    finally:
        path.write_text(source, "utf-8")
    if before and before["mutants"] != count:
        raise SystemExit(f"{module}: it has other mutants than in the earlier result")
    noticed = count - len(survivors)
    print(f"{module}: {noticed} of {count} noticed, {noticed / count:.1%}", flush=True)
    return {"module": module, "mutants": count, "noticed": noticed, "survivors": survivors}


def main() -> None:
    """Writes the scores of the chosen modules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="module")
    parser.add_argument("-o", dest="out", type=Path, default=Path("mutation.json"))
    parser.add_argument("--again", type=Path, metavar="JSON", help="try only its survivors")
    asked = parser.parse_args()
    earlier = json.loads(asked.again.read_text("utf-8")) if asked.again else []
    before = {one["module"]: one for one in earlier}
    out = asked.out.resolve()
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.nii*", "docs")
        shutil.copytree(ROOT, copy, ignore=unwanted)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(one for one in sys.path if one not in ("", str(ROOT)))]
        os.environ["PYTHONPATH"] = str(copy)
        warm_up()
        found = [score(*TARGETS[n], before.get(TARGETS[n][0])) for n in asked.targets]
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def warm_up() -> None:
    """Imports what takes long, once for all forks."""
    import anyio.pytest_plugin
    import beartype
    import hypothesis.strategies
    import jaxtyping
    import nibabel
    import pydantic
    import pytest
    import scipy.ndimage
    import skimage.measure
    import sklearn
    import torch
    import xdist.plugin
    from monai.metrics import regression

    torch.set_num_threads(1)
    hypothesis.settings.register_profile("busy", deadline=None)  # slow is not noticed
    hypothesis.settings.load_profile("busy")
    used = (beartype, jaxtyping, nibabel, pydantic, scipy.ndimage, skimage.measure, sklearn)
    used = (*used, anyio.pytest_plugin, hypothesis.strategies, pytest, xdist.plugin)
    assert all((*used, regression))
    assert not any(name.split(".")[0] == "medgan" for name in sys.modules)


if __name__ == "__main__":
    main()
