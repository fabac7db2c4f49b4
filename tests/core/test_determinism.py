import os

import pytest
import torch
from torch.nn.functional import conv3d

from medgan.core import determinism
from medgan.core.determinism import deterministic, in_fixed_order
from medgan.core.errors import EnvironmentFailure
from medgan.core.threads import SharedCores

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv(WORKSPACE, "")
    monkeypatch.delenv(WORKSPACE)


def switches():
    cudnn = torch.backends.cudnn
    return torch.get_deterministic_debug_mode(), cudnn.benchmark, cudnn.deterministic


@pytest.mark.fault(45)
def test_what_gives_other_bits_each_time_is_off_inside_and_as_before_outside(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = switches()
    with deterministic(False):
        assert switches() == before
        assert WORKSPACE not in os.environ
    with deterministic(True):
        assert switches() == (2, False, True)
        assert os.environ[WORKSPACE] == ":4096:8"
        assert in_fixed_order(torch.device("cuda"))
        assert not in_fixed_order(torch.device("cpu"))
    assert switches() == before
    assert not in_fixed_order(torch.device("cuda"))


@pytest.mark.fault(45)
def test_an_operation_without_an_order_is_one_error_that_names_it(measured):
    text = "grid_sampler_3d_backward_cuda does not have a deterministic implementation, but you set"
    with pytest.raises(EnvironmentFailure, match="grid_sampler_3d_backward_cuda") as found:
        with deterministic(True):
            raise RuntimeError(text)
    assert (found.value.code, found.value.exit_status) == ("E_DETERMINISTIC", 4)
    assert torch.get_deterministic_debug_mode() == 0
    with pytest.raises(RuntimeError, match="Expected 4D"), deterministic(True):
        conv3d(torch.zeros(1), torch.zeros(1, 1, 1, 1, 1))  # any other is not of this kind
    measured(f"an operation that has no order: {found.value.code}, status 4")


@pytest.mark.fault(45)
def test_cuda_that_started_without_the_switch_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(EnvironmentFailure, match=r"E_DETERMINISTIC.*new process"):
        with deterministic(True):
            pass
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with deterministic(True):
        assert os.environ[WORKSPACE] == ":16:8"


@pytest.mark.fault(45)
def test_the_number_of_threads_is_that_of_all_cores_whatever_else_runs(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    cores, before = SharedCores(), torch.get_num_threads()
    monkeypatch.setattr(determinism, "shared_cores", lambda: cores)
    monkeypatch.setattr(cores, "most", 3)
    monkeypatch.setattr(cores, "_measured", (0.0, 0.0, 0.0))
    monkeypatch.setattr(cores, "_measure", lambda: (9.0, 9e6, 0.0))  # others keep all cores busy
    try:
        with deterministic(True):
            assert torch.get_num_threads() == cores.share() == 3
        assert cores.share() == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
