"""Small tables for notebooks: rows in, HTML out, everything in them escaped."""

from collections.abc import Mapping, Sequence
from html import escape


def table_of(facts: Mapping[str, object], title: str) -> str:
    """Names and values, a row each; what is empty is left out."""
    rows = [
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "", (), [])
    ]
    return _table(title, rows)


def table_with(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str) -> str:
    """A head of columns and rows below it."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = ["".join(f"<td>{escape(str(value))}</td>" for value in row) for row in rows]
    return _table(title, [f"<tr>{cells}</tr>" for cells in (head, *body)])


def _table(title: str, rows: Sequence[str]) -> str:
    caption = f"<caption style='text-align:left'><b>{escape(title)}</b></caption>"
    return f"<table>{caption}{''.join(rows)}</table>"
