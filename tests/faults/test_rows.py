"""Every fault in the table has a test."""

import ast
from pathlib import Path

from tests.faults.plugin import ROWS

_TESTS = Path(__file__).parents[1]


def test_every_row_is_proved_by_a_test():
    proved = {row for path in _TESTS.rglob("test_*.py") for row in _rows_of(path)}
    assert [row["row"] for row in ROWS if row["row"] not in proved] == []


def _rows_of(path: Path):
    """What stands in `pytest.mark.fault(…)` in this file."""
    text = path.read_text("utf-8")
    if "mark.fault" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(attr="fault"), args=args):
                yield from (ast.literal_eval(arg) for arg in args)
