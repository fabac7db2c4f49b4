from medgan.core.tables import html_facts, html_table, markdown_table, text_table

COLUMNS = ("scan", "size (mm)")
ROWS = [("c-1", 12), ("c-100", "a|b\nc")]


def test_a_markdown_table_has_one_line_a_row_and_escapes_what_would_break_it():
    assert markdown_table(COLUMNS, ROWS).splitlines() == [
        "| scan | size (mm) |",
        "| --- | --- |",
        "| c-1 | 12 |",
        "| c-100 | a\\|b c |",
    ]


def test_a_text_table_aligns_columns_and_never_wraps_or_interprets_text():
    rows = [("[red]x[/red]", "y" * 300), ("", "z")]
    lines = text_table(COLUMNS, rows).splitlines()
    assert [line.index(text) for line, text in zip(lines, ("size", "yyy", "z"), strict=True)] == (
        [14] * 3
    )
    assert lines[1] == "[red]x[/red]  " + "y" * 300
    assert not any(line.endswith(" ") for line in lines)


def test_tables_without_rows_have_their_header():
    assert markdown_table(COLUMNS, []).count("\n") == 1
    assert text_table(COLUMNS, []) == "scan  size (mm)"


def test_html_is_escaped_and_empty_values_are_left_out():
    text = html_facts({"<b>": "<script>", "none": None, "nothing": "", "zero": 0}, "<i>")
    assert "&lt;script&gt;" in text
    assert "<script>" not in text + html_table(["a"], [["<script>"]], "<script>")
    assert text.count("<tr>") == 2
