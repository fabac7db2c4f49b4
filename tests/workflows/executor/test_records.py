import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan.core.errors import DataError
from medgan.workflows.executor.records import MOST_TRIES, CaseRecords, Task, Tries
from medgan.workflows.executor.shard import Shard
from medgan.workflows.executor.work import Here, attempt, do_all
from tests.kit.models import make_model
from tests.kit.workers import Odd, tasks


@pytest.fixture
def work(tmp_path):
    return Odd(CaseRecords(tmp_path))


@given(st.integers(0, 60), st.integers(1, 12))
def test_shards_cover_everything_exactly_once_and_evenly(count, of):
    parts = [Shard(number, of).of_all(range(count)) for number in range(1, of + 1)]
    assert sorted(one for part in parts for one in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_record_holds_for_the_same_key_and_whole_files_alone(work, tmp_path):
    (task,) = tasks("a")
    assert attempt(work, make_model(), task).values["row"]["case"] == "a"
    assert work.records.find(task)
    assert work.records.find(Task("a", "another model", "a")) is None
    (tmp_path / "a.txt").write_text("cut of")
    assert work.records.find(task) is None


def test_what_was_done_is_not_done_again(work):
    model = make_model()
    first = list(do_all(Here(model), work, tasks("a", "b:bad", "c"), lambda *_: None))
    again = list(do_all(Here(model), work, tasks("a", "b:bad", "c"), lambda *_: None))
    assert work.worked_on() == ["a", "b", "c", "b"]
    values = [{one.task.name: one.values for one in run} for run in (first, again)]
    assert values[0] == values[1]
    assert {one.task.name: one.refusal.code for one in again if one.refusal} == {"b": "E_HEADER"}


def test_a_case_that_has_ended_processes_comes_last_and_is_refused_in_the_end(work, tmp_path):
    folder = tmp_path / "work" / "tries"
    folder.mkdir(parents=True)
    (folder / "a").write_text(str(MOST_TRIES - 1))
    (folder / "b").write_text(str(MOST_TRIES))
    done = list(do_all(Here(make_model()), work, tasks("b", "a", "c"), lambda *_: None))
    assert work.worked_on() == ["c", "a"]
    assert [one.task.name for one in done] == ["c", "a", "b"]
    assert done[-1].refusal.code == "E_CRASH"
    assert not (folder / "a").exists()  # it was done


def test_an_interruption_is_no_try(tmp_path):
    tries = Tries(tmp_path)
    counted = tries.counted("a", "leave it out")
    counted.__enter__()
    assert tries.count("a") == 1
    assert not counted.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert tries.count("a") == 0
    (tmp_path / "a").write_text(str(MOST_TRIES))
    with pytest.raises(DataError, match="E_CRASH"), tries.counted("a", "leave it out"):
        pass


def test_records_and_files_move_as_one_and_go_on_where_a_move_was_broken_off(work, tmp_path):
    for task in tasks("a", "b"):
        attempt(work, make_model(), task)
    there = CaseRecords(tmp_path / "there")
    (tmp_path / "there").mkdir()
    (tmp_path / "a.txt").rename(tmp_path / "there" / "a.txt")  # and then it was killed
    for name in work.records.names:
        work.records.move(name, there)
    assert work.records.names == []
    assert all(there.find(task) for task in tasks("a", "b"))
    there.keep_only(["a"], ["."])
    assert there.names == ["a"]
    assert not (tmp_path / "there" / "b.txt").exists()
