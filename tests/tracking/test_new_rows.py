"""Rows of a metrics.jsonl that grows and is rewritten are each read once."""

from medgan.tracking.new_rows import NewRows
from medgan.tracking.tracker import METRICS, JsonlTracker


def steps(rows):
    return [row.step for row in rows]


def test_rows_after_a_rewinding_are_read_from_their_beginning(tmp_path):
    """The new rows end beyond the place up to which the old ones were read."""
    jsonl, rows = JsonlTracker(tmp_path / METRICS), NewRows(tmp_path / METRICS)
    for number in range(10):
        jsonl.log({"a": 1.0}, number)
    last = rows.read(0, 1000)[-1].time
    assert rows.read(last, 1000) == []
    jsonl.rewind(4)
    rows.again()
    for number in range(5, 15):
        jsonl.log({"a": 2.0, "longer": 3.0}, number)
    assert steps(rows.read(last, 1000)) == list(range(5, 15))


def test_a_row_that_is_half_written_is_read_once_it_is_whole(tmp_path):
    path = tmp_path / METRICS
    rows, text = NewRows(path), '{"volumes_seen": 2, "time": 7, "a": 1}\n'
    assert rows.read(0, 1000) == []
    for length in range(len(text)):
        path.write_text(text[:length])
        assert rows.read(0, 1000) == []
    path.write_text(text)
    assert steps(rows.read(0, 1000)) == [2]
    assert rows.read(7, 1000) == []


def test_a_read_stops_before_too_many_metrics_but_gives_one_row_at_least(tmp_path):
    jsonl, rows = JsonlTracker(tmp_path / METRICS), NewRows(tmp_path / METRICS)
    for number in range(5):
        jsonl.log({"a": 1.0, "b": 2.0}, number)
    assert steps(rows.read(0, 5)) == [0, 1]
    assert steps(rows.read(0, 1)) == [0]
