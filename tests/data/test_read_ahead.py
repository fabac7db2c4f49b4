import threading
from contextlib import closing

import pytest

from medgan.core.nifti import MAX_BYTES
from medgan.data import read_ahead
from medgan.data.read_ahead import ReadAhead


def test_items_that_follow_are_begun_and_come_in_turn():
    together, items = threading.Barrier(3, timeout=20), ["a", "b", "c"]

    def work(item):
        together.wait()  # ends only when all three are worked on at the same time
        return item.upper()

    with closing(ReadAhead(work, lambda item: True, threads=3)) as result:
        assert [result(item, items[n + 1 :]) for n, item in enumerate(items)] == ["A", "B", "C"]


def test_an_error_comes_with_the_turn_of_its_item():
    def work(item):
        if item == "bad":
            raise ValueError(item)
        return item

    with closing(ReadAhead(work, lambda item: True, threads=2)) as result:
        assert result("good", ["bad"]) == "good"
        with pytest.raises(ValueError, match="bad"):
            result("bad")


@pytest.mark.parametrize(("threads", "may_begin"), [(1, True), (4, False)])
def test_work_waits_for_its_turn_where_it_may_not_begin(threads, may_begin):
    done = []
    with closing(ReadAhead(done.append, lambda item: may_begin, threads)) as result:
        result("a", ["b", "c"])
        assert done == ["a"]
        result("b", ["c"])
        assert done == ["a", "b"]


def test_what_has_not_begun_never_does_once_the_work_is_left():
    go, done = threading.Event(), []

    def work(item):
        go.wait(20)
        done.append(item)

    def stopped():
        with closing(ReadAhead(work, lambda item: True, threads=2)) as result:
            for number in range(3):
                result._pool.submit(work, number)
            threading.Timer(0.1, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert sorted(done) == [0, 1]


def test_an_item_that_is_passed_over_is_never_taken_for_another():
    def first(item: list[str]) -> str:
        return item[0]

    with closing(ReadAhead(first, lambda item: True, threads=4)) as result:
        result(["a"], [["passed over"]])
        assert [result([str(n)]) for n in range(100)] == [str(n) for n in range(100)]


@pytest.mark.parametrize(("free", "threads"), [(0, 1), (5 * MAX_BYTES, 2), (1000 * MAX_BYTES, 3)])
def test_every_thread_has_memory_for_the_largest_scan(free, threads, monkeypatch):
    monkeypatch.setattr(read_ahead, "free_ram", lambda: free)
    monkeypatch.setattr(read_ahead, "core_limit", lambda: 3)
    assert read_ahead.threads_for_reading() == threads
