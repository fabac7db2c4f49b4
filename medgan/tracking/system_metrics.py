"""What the machine does while it trains, under the names that MLflow's own monitor gives.

The training's thread samples between two steps and puts the figures into its own row of
metrics.jsonl. So they go the way of all metrics: nothing waits for a server, nothing is lost with
one, and `medgan sync` sends them later.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from medgan.tracking.tracker import Tracker

log = logging.getLogger(__name__)
PREFIX = "system/"
"""MLflow shows such metrics in a tab of their own."""
SECONDS_BETWEEN = 10.0
"""As MLflow's own monitor does by default."""
_MEGABYTE = 1e6
Sample = Callable[[], dict[str, float]]


class WithSystemMetrics:
    """A tracker that adds figures of the machine to a row every ten seconds.

    Args:
        tracker: receives all rows.
        folder: of the training; its disk is the one watched.
        gpu: whether the training runs on a GPU; its figures need the package nvidia-ml-py.
        seconds: between two samples, at least.
    """

    def __init__(
        self, tracker: Tracker, folder: Path, gpu: bool, seconds: float = SECONDS_BETWEEN
    ) -> None:
        self._tracker, self._seconds = tracker, seconds
        self._next = 0.0
        self._samples = [_processor, _memory, lambda: _disk(folder), _network()]
        if gpu:
            self._samples.append(_gpus())
        self._sampled()  # of the processor and the network, what follows is since the call before

    def log(self, scalars: dict[str, float], volumes_seen: int) -> None:
        """The row, with figures of the machine where they are due."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + self._seconds
            scalars = scalars | self._sampled()
        self._tracker.log(scalars, volumes_seen)

    def picture(self, path: Path) -> None:
        """Goes through."""
        self._tracker.picture(path)

    def rewind(self, volumes_seen: int) -> None:
        """Goes through."""
        self._tracker.rewind(volumes_seen)

    def _sampled(self) -> dict[str, float]:
        """All figures that can be had here; what fails once is not asked again."""
        found: dict[str, float] = {}
        for sample in list(self._samples):
            try:
                found |= {PREFIX + name: round(float(v), 1) for name, v in sample().items()}
            except Exception as error:  # no figure of the machine is worth a training
                log.debug("%s", type(error).__name__, exc_info=True)
                self._samples.remove(sample)
        return found


def _processor() -> dict[str, float]:
    """Share of all cores that was busy since the last call, in percent."""
    return {"cpu_utilization_percentage": psutil.cpu_percent()}


def _memory() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system_memory_usage_percentage": 100 * memory.used / memory.total,
    }


def _disk(folder: Path) -> dict[str, float]:
    usage = psutil.disk_usage(str(folder))
    return {
        "disk_usage_percentage": usage.percent,
        "disk_usage_megabytes": usage.used / _MEGABYTE,
        "disk_available_megabytes": usage.free / _MEGABYTE,
    }


def _network() -> Sample:
    """What all programs have received and sent since the training began."""
    start = None

    def sample() -> dict[str, float]:
        nonlocal start
        now = psutil.net_io_counters()
        start = start or now
        return {
            "network_receive_megabytes": (now.bytes_recv - start.bytes_recv) / _MEGABYTE,
            "network_transmit_megabytes": (now.bytes_sent - start.bytes_sent) / _MEGABYTE,
        }

    return sample


def _gpus() -> Sample:
    """Memory, utilisation and power of each GPU; nothing where nvidia-ml-py is not installed."""
    try:
        import pynvml as nvml  # pyright: ignore[reportMissingImports] - only where there is a GPU

        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    except Exception as error:  # not installed, or no driver
        log.debug("no figures of the GPU (%s): pip install nvidia-ml-py", type(error).__name__)
        return dict

    def sample() -> dict[str, float]:
        found = {}
        for number, handle in enumerate(handles):
            memory, power = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetPowerUsage
            limit = nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
            found |= {
                f"gpu_{number}_memory_usage_percentage": 100 * memory.used / memory.total,
                f"gpu_{number}_memory_usage_megabytes": memory.used / _MEGABYTE,
                f"gpu_{number}_utilization_percentage": (
                    nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                ),
                f"gpu_{number}_power_usage_watts": power(handle) / 1000,
                f"gpu_{number}_power_usage_percentage": 100 * power(handle) / limit,
            }
        return found

    return sample
