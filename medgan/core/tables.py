"""Tables of rows: as Markdown, as text for a terminal and as HTML for a notebook."""

from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO

Rows = Sequence[Sequence[object]]


def markdown_table(columns: Sequence[str], rows: Rows) -> str:
    r"""A Markdown table; bars and line breaks in cells are escaped.

    Example:
        >>> print(markdown_table(["a", "b"], [[1, "x|y"]]))
        | a | b |
        | --- | --- |
        | 1 | x\|y |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split("\n")).replace("|", "\\|")


def text_table(columns: Sequence[str], rows: Rows) -> str:
    """Columns side by side, two spaces apart, for a terminal or a log.

    Example:
        >>> print(text_table(["scan", "slices"], [["c-1", 12], ["c-10", 9]]))
        scan  slices
        c-1   12
        c-10  9
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in columns:
        table.add_column(Text(name), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    text = StringIO()
    Console(file=text, width=100_000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def html_facts(facts: Mapping[str, object], title: str) -> str:
    """An HTML table of names and values, a row each; empty values are left out."""
    rows = [
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "", (), [])
    ]
    return _html(title, rows)


def html_table(columns: Sequence[str], rows: Rows, title: str) -> str:
    """An HTML table with a header; text is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = ["".join(f"<td>{escape(str(value))}</td>" for value in row) for row in rows]
    return _html(title, [f"<tr>{cells}</tr>" for cells in (head, *body)])


def _html(title: str, rows: Sequence[str]) -> str:
    caption = f"<caption style='text-align:left'><b>{escape(title)}</b></caption>"
    return f"<table>{caption}{''.join(rows)}</table>"
