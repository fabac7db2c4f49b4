"""Worker processes of this machine. They take seconds to begin: one pool does most here."""

from collections import Counter

import pytest
import torch

from medgan.core.conversion import Conversion
from medgan.core.errors import EnvironmentFailure, ModelError
from medgan.model.fresh_networks import translating_networks
from medgan.model.model import Model
from medgan.reporting import slices
from medgan.workflows.executor.local import Local
from medgan.workflows.executor.records import MOST_TRIES, CaseRecords
from medgan.workflows.executor.work import ModelAt, do_all
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.folder_contents import contents
from tests.kit.models import SIZES
from tests.kit.paired_scans import MR_AND_CT
from tests.kit.workers import Odd, model_at, tasks


@pytest.mark.fault(43)
def test_a_worker_that_dies_loses_no_case_and_repeats_none(tmp_path, measured):
    at, work = model_at(tmp_path / "model"), Odd(CaseRecords(tmp_path))
    wanted = tasks("a", "b:kills once", "c:bad", "d", "e:kills", "f", "g")
    tries = tmp_path / "work" / "tries" / "e"
    tries.parent.mkdir(parents=True)
    tries.write_text(str(MOST_TRIES - 1))
    with Local(2, at, threads=1) as pool:
        done = {one.task.name: one for one in do_all(pool, work, wanted, lambda *_: None)}
        pids = [worker._pid for worker in pool.workers]
        assert len(done) == len(wanted)
        assert {name for name, one in done.items() if one.values} == {"a", "b", "d", "f", "g"}
        assert {n: d.refusal.code for n, d in done.items() if d.refusal} == {
            "c": "E_HEADER", "e": "E_CRASH",
        }  # fmt: skip
        assert done["a"].values["row"]["digest"] == at.digest[:4]
        assert done["a"].values["row"]["itk"] == "1"
        expected = {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1}
        assert Counter(work.worked_on()) == expected
        died = sum(number > 1 for number in Counter(work.worked_on()).values()) + 1
        measured(f"{died} workers killed, {len(done)} of {len(wanted)} cases answered once")
        with pytest.raises(EnvironmentFailure, match="E_DISK"):
            list(pool.run(work, tasks("h:full")))
    assert not any(map(_alive, pids))


def test_another_model_in_the_folder_ends_the_work(tmp_path):
    at = ModelAt(model_at(tmp_path / "model").folder, "f00")
    with Local(1, at, threads=1) as pool, pytest.raises(ModelError, match="finds another model"):
        list(pool.run(Odd(CaseRecords(tmp_path)), tasks("a")))


def test_translations_by_two_workers_are_those_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "DPI", 110)  # as workers have it, which know no conftest.py
    torch.manual_seed(0)
    networks = translating_networks(
        MR_AND_CT, SIZES, Conversion("translation", ("T1w",), ("ct",), True)
    )
    Model(networks, MR_AND_CT, SIZES, {"training_scans": 3}).save(tmp_path / "model")
    scans = write_folder(tmp_path / "scans", 4, labels=False)
    (scans / "person-01.nii.gz").write_bytes(b"nothing")
    outs = []
    for workers in (1, 2):
        outs.append(tmp_path / str(workers))
        done = inside(
            "translate", tmp_path / "model", scans, "-o", outs[-1], "--answers", 2,
            "--workers", workers,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
    one, two = map(contents, outs)
    assert {name.split("/")[0] for name in one} >= {"images", "spread", "pictures"}
    assert two.keys() == one.keys()
    assert [name for name, data in one.items() if two[name] != data] == []


def _alive(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
