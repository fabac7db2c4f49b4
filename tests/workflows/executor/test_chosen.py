from multiprocessing import forkserver
from types import SimpleNamespace

import pytest
import torch

from medgan.workflows.executor import chosen, forks


def model(edge, device="cpu"):
    grid = SimpleNamespace(shape=(edge,) * 3)
    return SimpleNamespace(device=torch.device(device), preprocessing=grid)


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(chosen, "shared_cores", lambda: SimpleNamespace(most=4))
    monkeypatch.setattr(chosen, "free_ram", lambda: 100 * chosen.BYTES_EACH)


def test_workers_pay_for_few_large_scans_and_for_many_small_ones(four_cores):
    assert chosen.that_pay(1000, model(32)) == 4
    assert chosen.that_pay(20, model(32)) == 1
    assert chosen.that_pay(20, model(96)) == 4
    assert chosen.that_pay(1, model(96)) == 1


def test_each_worker_needs_memory(four_cores, monkeypatch):
    monkeypatch.setattr(chosen, "free_ram", lambda: 2 * chosen.BYTES_EACH)
    assert chosen.that_pay(1000, model(32)) == 2


@pytest.fixture
def begun(monkeypatch):
    """Whether the process that workers are forked from was asked for."""
    asked = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: asked.append(True))
    monkeypatch.setattr(forks, "core_limit", lambda: 2)
    return asked


def test_imports_begin_early_where_workers_are_likely(tmp_path, begun, monkeypatch):
    for number in range(forks.FEWEST):
        (tmp_path / f"{number}.nii.gz").touch()
    forks.expect_workers(str(tmp_path), "", None)
    assert begun
    begun.clear()
    forks.expect_workers("models.csv", "local", 2)
    assert begun
    begun.clear()
    monkeypatch.setattr(forks, "core_limit", lambda: 1)
    forks.expect_workers(str(tmp_path), "", None)
    assert not begun


@pytest.mark.parametrize(("engine", "workers"), [("", 1), ("ray", None), ("", None), ("ray", 2)])
def test_imports_do_not_begin_twice_where_no_workers_will_be(tmp_path, begun, engine, workers):
    count = forks.FEWEST - 1 if (engine, workers) == ("", None) else forks.FEWEST
    for number in range(count):
        (tmp_path / f"{number}.nii.gz").touch()
    forks.expect_workers(str(tmp_path), engine, workers)
    assert not begun
    forks.expect_workers(str(tmp_path / "absent"), engine, workers)
    assert not begun
