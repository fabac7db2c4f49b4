"""Every fault in the table has a test, and every guard that is listed is where the list says."""

import ast
import tomllib
from pathlib import Path

from tests.faults.plugin import ROWS

_TESTS = Path(__file__).parents[1]


def test_every_row_is_proved_by_a_test():
    proved = {row for path in _TESTS.rglob("test_*.py") for row in _rows_of(path)}
    assert [row["row"] for row in ROWS if row["row"] not in proved] == []


def test_every_listed_guard_is_in_its_file_once():
    text = Path(__file__).with_name("guards.toml").read_text("utf-8")
    for guard in tomllib.loads(text)["guard"]:
        path = _TESTS.parent / guard["file"]
        assert path.read_text("utf-8").count(guard["text"]) == 1, guard
        assert guard["row"] in [row["row"] for row in ROWS]


def _rows_of(path: Path):
    """What stands in `pytest.mark.fault(…)` in this file."""
    text = path.read_text("utf-8")
    if "mark.fault" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(attr="fault"), args=args):
                yield from (ast.literal_eval(arg) for arg in args)
