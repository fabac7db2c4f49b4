"""Workers that hang: the case is named, tried once more, refused."""

import importlib.util
from dataclasses import dataclass, field

import pytest

from medgan.workflows.executor.crew import work_through
from medgan.workflows.executor.local import Local
from medgan.workflows.executor.on_ray import OnRay
from medgan.workflows.executor.patience import Patience
from medgan.workflows.executor.records import CaseRecords, Task
from medgan.workflows.executor.work import Done
from tests.kit.ray_alone import ray_alone
from tests.kit.workers import Odd, model_at, tasks


@dataclass(eq=False)
class Acted:
    """Workers of a crew on a clock of its own. The item of a task says how often it hangs, and else
    how many seconds it takes."""

    workers: list["Player"] = field(default_factory=list)
    now: float = 0.0

    def wait(self, handles, seconds):
        due = min(ends for _, ends in handles)
        self.now = max(self.now, min(due, self.now + (1e9 if seconds is None else seconds)))
        return [handle for handle in handles if handle[1] <= self.now]


@dataclass(eq=False)
class Player:
    crew: Acted
    kills: int = 0
    task: Task | None = None

    def begin(self):
        self.task = None
        return (self, self.crew.now), self.crew.now

    def submit(self, work, task):
        self.task = task
        hangs, seconds = task.item
        task.item[0] -= 1
        return (self, object()), self.crew.now + (1e12 if hangs > 0 else seconds)

    def result(self, handle):
        return None if self.task is None else Done(self.task, {})

    def kill(self):
        self.kills += 1


def played(work, patience, crew, **items):
    crew.workers = [Player(crew), Player(crew)]
    given = [Task(name, "key", item) for name, item in items.items()]
    return {one.task.name: one for one in work_through(crew, work, given, patience)}


@pytest.mark.fault(43)
def test_a_case_that_hangs_is_named_tried_once_more_and_then_refused(tmp_path, caplog, measured):
    crew, work = Acted(), Odd(CaseRecords(tmp_path))
    patience = Patience(clock=lambda: crew.now)
    done = played(work, patience, crew, a=[0, 5], once=[1, 5], ever=[9, 5], b=[0, 5], c=[0, 5])
    assert {name for name, one in done.items() if one.refusal is None} == {"a", "once", "b", "c"}
    refusal = done["ever"].refusal
    assert (refusal.case, refusal.code) == ("ever", "E_HUNG")
    kills = sum(worker.kills for worker in crew.workers)
    assert kills == 3
    assert [record.args[0] for record in caplog.records] == ["once", "ever"]
    measured(f"{kills} hangs, {len(done)} of 5 cases answered, 1 with E_HUNG")


@pytest.mark.fault(43)
def test_a_case_may_take_forty_times_as_long_as_any_before_and_the_first_most_of_an_hour(tmp_path):
    crew, work = Acted(), Odd(CaseRecords(tmp_path))
    patience = Patience(clock=lambda: crew.now)
    done = played(work, patience, crew, first=[0, 3500], second=[0, 100], third=[0, 40 * 3500])
    assert not [one for one in done.values() if one.refusal]
    quick = Patience(clock=lambda: crew.now)
    done = played(work, quick, crew, a=[0, 0.1], b=[0, 0.1], c=[0, 800])
    assert not [one for one in done.values() if one.refusal]


def test_a_limit_that_is_set_holds_from_the_first_case(tmp_path):
    crew, work = Acted(), Odd(CaseRecords(tmp_path))
    done = played(work, Patience(2.0, lambda: crew.now), crew, a=[0, 130], b=[0, 110])
    assert {name for name, one in done.items() if one.refusal} == {"a"}
    assert "executor.case_minutes" in done["a"].refusal.remedy


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)


@pytest.mark.slow
@pytest.mark.fault(43)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=needs_ray)])
def test_processes_that_never_answer_are_killed(engine, tmp_path, monkeypatch, measured):
    work, at, minutes = Odd(CaseRecords(tmp_path)), model_at(tmp_path / "model"), 0.25
    if engine == "ray":
        ray_alone(monkeypatch, tmp_path / "home")
        crew = OnRay(2, at, case_minutes=minutes)
    else:
        crew = Local(2, at, threads=1, case_minutes=minutes)
    wanted = tasks("a", "b:hangs once", "c:hangs", "d", "e")
    with crew:
        done = {one.task.name: one for one in crew.run(work, wanted)}
    assert {name: one.refusal.code for name, one in done.items() if one.refusal} == {"c": "E_HUNG"}
    begun = work.worked_on()
    assert (begun.count("b"), begun.count("c"), len(begun)) == (2, 2, 7)
    measured(f"{engine}: 3 processes that ignore SIGTERM killed, 4 of 5 cases done")
