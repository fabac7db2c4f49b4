"""A plugin of pytest: the table of faults, from the tests that prove its rows.

A test carries `@pytest.mark.fault(row)` and tells its figure through the fixture `measured`.
`pytest --faults PAGE` prints the table, writes it as a page, and fails where a row has no test.
"""

import tomllib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from medgan.core.tables import markdown_table

ROWS = tomllib.loads(Path(__file__).with_name("rows.toml").read_text("utf-8"))["row"]


class Proof(NamedTuple):
    """How one test of a row ended, and what it measured."""

    test: str
    outcome: str
    figures: tuple[str, ...]


def pytest_addoption(parser):
    parser.addoption("--faults", metavar="PAGE", help="print the table of faults, write it to PAGE")
    parser.addoption("--fault-row", metavar="ROW", help="run the tests of this row only")


def pytest_configure(config):
    page = config.getoption("--faults")
    if page and not hasattr(config, "workerinput"):  # that of the process that writes reports
        config.pluginmanager.register(_Table(Path(page)))


def pytest_collection_modifyitems(config, items):
    """Rows travel with the reports, from other processes too."""
    known = [row["row"] for row in ROWS]
    for item in items:
        for row in (row for mark in item.iter_markers("fault") for row in mark.args):
            if row not in known:
                raise pytest.UsageError(f"{item.nodeid}: rows.toml has no row {row!r}")
            item.user_properties.append(("fault", row))
    if (wanted := config.getoption("--fault-row")) is not None:
        chosen = [
            i for i in items if ("fault", wanted) in ((n, str(r)) for n, r in i.user_properties)
        ]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


@pytest.fixture
def measured(record_property):
    """Tells a figure that the test counted, for the table of faults."""
    return lambda figure: record_property("measured", figure)


class _Table:
    def __init__(self, page: Path) -> None:
        self._page = page
        self._proofs: dict[object, dict[str, Proof]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        said = list(report.user_properties)
        figures = tuple(str(value) for name, value in said if name == "measured")
        for row in (value for name, value in said if name == "fault"):
            self._proofs[row][report.nodeid] = Proof(report.nodeid, report.outcome, figures)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        missing = [row["row"] for row in ROWS if not self._proofs[row["row"]]]
        if missing and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for row in ROWS:
            state, figure = _state(self._proofs[row["row"]]), _figure(row, self._proofs[row["row"]])
            terminalreporter.write_line(f"{row['row']!s:>22}  {state:<8}  {row['fault']}: {figure}")
        self._page.write_text(_page(self._proofs), "utf-8")


def _state(proofs) -> str:
    outcomes = {proof.outcome for proof in proofs.values()}
    if not outcomes:
        return "no test"
    return "fail" if "failed" in outcomes else "pass" if "passed" in outcomes else "skipped"


def _figure(row, proofs) -> str:
    """What was measured, each figure once; how many tests where none told any."""
    figures = dict.fromkeys(figure for name in sorted(proofs) for figure in proofs[name].figures)
    passed = sum(proof.outcome == "passed" for proof in proofs.values())
    own = [*figures] or [f"{passed} tests" if passed != 1 else "1 test"]
    return "; ".join([*own, *filter(None, [row.get("long", "")])])


def _page(proofs) -> str:
    rows = [
        [row["row"], row["fault"], row["promise"], _state(of), _figure(row, of), _files(of)]
        for row in ROWS
        for of in [proofs[row["row"]]]
    ]
    table = markdown_table(["row", "fault", "medgan", "tests", "measured", "in"], rows)
    return f"""# Faults that medgan bears

What can go wrong with scans, machines and servers, what medgan does then, and what was measured.
`make test-faults` runs these tests and writes this page; `make test` has the quick ones.

{table}
"""


def _files(proofs) -> str:
    """The files of tests, without the folder `tests/`."""
    files = sorted({name.split("::")[0].removeprefix("tests/") for name in proofs})
    return ", ".join(f"`{name}`" for name in files)
