"""What the machine does, in the rows of a training, under MLflow's own names."""

import sys
from types import SimpleNamespace

import psutil
import pytest
from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, gpu_monitor, network_monitor

from medgan.tracking.system_metrics import WithSystemMetrics
from medgan.tracking.tracker import JsonlTracker, read_metrics

NVML = SimpleNamespace(
    nvmlInit=lambda: None,
    NVMLError=RuntimeError,
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda number: number,
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=25e6 * (handle + 1), total=100e6),
    nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=80 + handle),
    nvmlDeviceGetPowerUsage=lambda handle: 350_000,
    nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
)


def rows_of(folder, seen, gpu=False, seconds=10.0):
    path = folder / "metrics.jsonl"
    tracker = WithSystemMetrics(JsonlTracker(path), folder, gpu, seconds)
    for volumes in seen:
        tracker.log({"loss": 1.0}, volumes)
    return read_metrics(path)


def system(row):
    return {name.partition("/")[2] for name in row if name.startswith("system/")}


def names_of_mlflow(*monitors):
    for monitor in monitors:
        monitor.collect_metrics()
    return {name for monitor in monitors for name in monitor.aggregate_metrics()}


def test_the_names_are_those_of_mlflows_own_monitors(tmp_path, monkeypatch):
    cpu, disk = cpu_monitor.CPUMonitor(), disk_monitor.DiskMonitor()
    expected = names_of_mlflow(cpu, disk, network_monitor.NetworkMonitor())
    assert system(rows_of(tmp_path / "cpu", [8])[0]) == expected
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    monkeypatch.setattr(gpu_monitor, "pynvml", NVML, raising=False)
    of_gpu = names_of_mlflow(gpu_monitor.GPUMonitor())
    row = rows_of(tmp_path / "gpu", [8], gpu=True)[0]
    assert system(row) == expected | of_gpu
    assert row["system/gpu_1_memory_usage_percentage"] == 50
    assert row["system/gpu_0_power_usage_watts"] == 350


def test_a_row_has_them_every_ten_seconds_and_keeps_its_own_figures(tmp_path, monkeypatch):
    clock = iter([100.0, 104.0, 109.9, 110.0, 111.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    rows = rows_of(tmp_path, [8, 16, 24, 32, 40])
    assert [bool(system(row)) for row in rows] == [True, False, False, True, False]
    assert [(row["volumes_seen"], row["loss"]) for row in rows] == [(8 * n, 1) for n in range(1, 6)]


def test_what_cannot_be_measured_is_left_out_and_harms_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)  # a machine without a network
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    asked = []

    def refused(path):
        asked.append(path)
        raise PermissionError

    monkeypatch.setattr(psutil, "disk_usage", refused)
    rows = rows_of(tmp_path, [8, 16], gpu=True, seconds=0)
    assert len(asked) == 1
    assert [row["loss"] for row in rows] == [1, 1]
    for row in rows:
        assert system(row) == {
            "cpu_utilization_percentage",
            *("system_memory_usage_megabytes", "system_memory_usage_percentage"),
        }


@pytest.mark.parametrize("name", ["net_io_counters", "cpu_percent"])
def test_a_system_that_refuses_from_the_start_stops_no_training(name, tmp_path, monkeypatch):
    def refused():
        raise PermissionError

    monkeypatch.setattr(psutil, name, refused)
    assert rows_of(tmp_path, [8])[0]["loss"] == 1


@pytest.mark.parametrize("name", ["cpu_utilization_percentage", "system_memory_usage_percentage"])
def test_shares_are_percent(name, tmp_path):
    assert 0 <= rows_of(tmp_path, [8])[0][f"system/{name}"] <= 100
