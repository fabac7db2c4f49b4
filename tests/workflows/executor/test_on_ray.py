"""Workers on a Ray cluster."""

import importlib.util
import sys
from collections import Counter

import pytest

from medgan.core.errors import EnvironmentFailure
from medgan.workflows.executor.on_ray import OnRay
from medgan.workflows.executor.records import MOST_TRIES, CaseRecords
from medgan.workflows.executor.work import ModelAt, do_all
from tests.kit.command_line import inside
from tests.kit.ray_alone import ray_alone
from tests.kit.workers import Odd, model_at, tasks

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)


def test_without_ray_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFailure, match=r"E_EXTRA ray: .*pip install 'medgan\[ray\]'"):
        OnRay(2, ModelAt(tmp_path, ""))


def test_an_engine_that_does_not_exist_is_refused(tmp_path):
    done = inside("score", tmp_path, tmp_path, "-o", tmp_path / "out", "--engine", "dask")
    assert done.returncode == 2
    assert "executor.engine" in done.stderr


@needs_ray
def test_a_cluster_that_does_not_answer_is_said(tmp_path):
    with pytest.raises(EnvironmentFailure, match=r"E_RAY executor.ray_address"):
        OnRay(2, ModelAt(tmp_path, ""), "127.0.0.1:1")


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Three nodes with one core each on this machine; their address."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray_alone(monkeypatch, tmp_path / "home")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_cluster_of_three_nodes_loses_no_case_when_actors_and_a_node_die(cluster, tmp_path):
    work, at = Odd(CaseRecords(tmp_path)), model_at(tmp_path / "model")
    slow = [f"s{number}:slow" for number in range(30)]
    wanted = tasks("a", "b:kills once", "c:bad", "d:kills", *slow)
    done, lost = {}, False
    with OnRay(0, at, cluster.address) as actors:
        assert len(actors.workers) == 3
        for one in do_all(actors, work, wanted, lambda *_: None):
            done[one.task.name] = one
            if len(done) == 10 and not lost:
                cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0])
                lost = True
                cluster.add_node(
                    num_cpus=1, node_ip_address="127.0.0.1"
                )  # a machine that takes its place
    assert lost
    assert len(done) == len(wanted)
    refused = {name: one.refusal.code for name, one in done.items() if one.refusal}
    assert refused == {"c": "E_HEADER", "d": "E_CRASH"}
    begun = Counter(work.worked_on())
    assert begun["b"] == 2
    assert begun["d"] == MOST_TRIES
    assert sum(begun[f"s{number}"] for number in range(30)) in (30, 31)  # that of the lost node
