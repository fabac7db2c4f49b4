from importlib.metadata import version

from medgan.core.place import place


def test_a_job_of_a_cluster_is_named_by_its_numbers(monkeypatch):
    for name, value in {"JOB_ID": "4711", "NNODES": "2", "RESTART_COUNT": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    found = place()
    assert found.pop("python").startswith("3.")
    assert found == {
        "torch": version("torch"), "processes": "8", "slurm_job": "4711", "slurm_nodes": "2",
        "slurm_restarts": "3",
    }  # fmt: skip


def test_no_name_comes_along(monkeypatch):
    for name in ("JOB_USER", "JOB_ACCOUNT", "JOB_PARTITION", "JOB_NODELIST", "JOB_ID", "NNODES"):
        monkeypatch.setenv(f"SLURM_{name}", "mueller")
    monkeypatch.setenv("USER", "mueller")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert place().keys() == {"python", "torch", "processes"}
    assert "mueller" not in str(place())
