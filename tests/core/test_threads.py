import os
from types import SimpleNamespace

import psutil
import pytest
import torch

from medgan.core import threads
from medgan.core.threads import SharedCores
from tests.kit.ranks import environment

ITK = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"


@pytest.fixture
def machine(monkeypatch):
    """Two cores whose clock and load the test turns; the number of threads is put back."""
    state = SimpleNamespace(now=100.0, user=[0.0, 0.0], nice=[0.0, 0.0], own=0.0)

    def times(percpu):
        pairs = zip(state.user, state.nice, strict=True)
        return [SimpleNamespace(user=user, nice=nice, system=0.0) for user, nice in pairs]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv(ITK, "1")  # so that it is put back, whatever a test makes of it
    monkeypatch.delenv(ITK)
    monkeypatch.setattr(psutil, "cpu_times", times)
    monkeypatch.setattr(threads.time, "monotonic", lambda: state.now)
    monkeypatch.setattr(threads, "_own_seconds", lambda: state.own)
    monkeypatch.setattr(threads, "core_limit", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield state
    torch.set_num_threads(before)


def passes(state, seconds, others=0.0, own=0.0, nice=0.0):
    """Time, with the number of cores that others, this program and nice programs keep busy."""
    state.now += seconds
    state.own += seconds * own
    state.user[0] += seconds * (others + own)
    state.nice[1] += seconds * nice


def test_a_core_that_others_keep_busy_is_left_to_them_until_it_is_free(machine):
    cores = SharedCores()
    passes(machine, 10, others=1.0, own=1.0)
    assert cores.share() == torch.get_num_threads() == 1
    passes(machine, 10, own=1.0)
    assert cores.share() == torch.get_num_threads() == 2


def test_registration_has_as_many_threads_unless_it_is_told_how_many(machine, monkeypatch):
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        cores = SharedCores()
        for busy, threads_then in ((1.0, 1), (0.0, 2)):
            passes(machine, 10, others=busy, own=1.0)
            cores.share()
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads_then
            assert os.environ[ITK] == str(threads_then)
        told = SharedCores()
        passes(machine, 10, others=1.0, own=1.0)
        assert told.share() == 1
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 2
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    monkeypatch.delenv(ITK)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    cores.share()
    assert os.environ[ITK] == "3"


def test_what_this_program_computes_counts_not_as_that_of_others(machine):
    cores = SharedCores()
    passes(machine, 10, own=2.0)
    assert cores.share() == torch.get_num_threads() == 2


def test_one_thread_is_always_left(machine):
    cores = SharedCores()
    passes(machine, 10, others=2.0)
    assert cores.share() == torch.get_num_threads() == 1


def test_programs_of_low_priority_count_like_others(machine):
    cores = SharedCores()
    passes(machine, 10, own=1.0, nice=1.0)
    assert cores.share() == 1


def test_a_moment_says_nothing(machine):
    cores = SharedCores()
    passes(machine, 0.1, others=2.0)
    assert cores.share() == 2


def test_the_user_has_the_last_word(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cores = SharedCores()
    passes(machine, 10, others=2.0)
    assert cores.share() == torch.get_num_threads() == 2


def test_a_containers_share_of_the_cores_is_all_that_is_used(machine, monkeypatch):
    monkeypatch.setattr(threads, "core_limit", lambda: 1)
    assert SharedCores().most == 1


def test_processor_time_of_this_program_and_its_children_is_known():
    first = threads._own_seconds()
    sum(number * number for number in range(300_000))
    assert threads._own_seconds() > first >= 0


def test_processes_that_train_together_have_equal_shares_whatever_else_runs(machine, monkeypatch):
    for name, value in environment(1, 2, 1).items():
        monkeypatch.setenv(name, value)
    cores = SharedCores()
    assert cores.share() == torch.get_num_threads() == 1
    passes(machine, 10, own=2.0)
    assert cores.share() == 1
