"""Which executor does the work: as the settings say, or as many workers as pay."""

import logging
import math
from collections.abc import Callable

from medgan.core.config import ExecutorConfig
from medgan.core.system import free_ram
from medgan.core.threads import shared_cores
from medgan.model.model import Model
from medgan.workflows.executor.local import Local
from medgan.workflows.executor.on_ray import OnRay
from medgan.workflows.executor.work import Executor, Here, ModelAt

log = logging.getLogger(__name__)
_SECONDS_EACH, _SECONDS_A_VOXEL = 0.05, 3.5e-6
"""Of a task on a CPU, by the voxels of the model: scoring a hippocampus and a brain took that."""
_START = 4.0
"""Seconds of work for each worker below which starting it takes longer than it saves."""
BYTES_EACH = 2 * 2**30
"""Free memory for each worker."""


class ChosenExecutor:
    """The executor of a run, which begins when it is known how many tasks there are.

    Args:
        settings: the executor section.
        model: loads the model into this process.
        at: gives the folder that workers load it from.
    """

    def __init__(
        self, settings: ExecutorConfig, model: Callable[[], Model], at: Callable[[], ModelAt]
    ) -> None:
        self._settings, self._model, self._at = settings, model, at
        self._workers: Local | OnRay | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether other processes work."""
        return self._workers is not None

    def begin(self, tasks: int) -> None:
        """Starts workers, unless they run or do not pay.

        Args:
            tasks: how many there will be, about.

        Raises:
            EnvironmentFailure: E_EXTRA, E_RAY.
        """
        if self._workers is not None or not tasks:
            return
        settings, model = self._settings, self._model()
        if settings.engine == "ray":
            self._workers = OnRay(
                settings.workers, self._at(), settings.ray_address, settings.gpus_each,
                settings.case_minutes,
            )  # fmt: skip
        else:
            workers = min(settings.workers or that_pay(tasks, model), tasks)
            if workers > 1:
                threads = max(1, shared_cores().most // workers)
                self._workers = Local(workers, self._at(), threads, settings.case_minutes)
        if self._workers is not None:
            log.info("%d workers (%s)", len(self._workers.workers), settings.engine)

    def of(self, tasks: int) -> Executor:
        """The executor, for about so many tasks."""
        self.begin(tasks)
        return self._workers or Here(self._model())

    def close(self) -> None:
        """Ends the workers."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None


def that_pay(tasks: int, model: Model) -> int:
    """Processes that are faster than one, here.

    Args:
        tasks: how many there are.
        model: that works on each.
    """
    if model.device.type == "cuda":
        import torch

        most = torch.cuda.device_count()
    else:
        most = shared_cores().most
    seconds = tasks * (_SECONDS_EACH + _SECONDS_A_VOXEL * math.prod(model.preprocessing.shape))
    return max(1, min(most, int(seconds / _START), free_ram() // BYTES_EACH))
