"""Where a command runs: versions, and the numbers of its job on a cluster. No names."""

import os
import sys
from importlib.metadata import version

from medgan.core.launched import launched

_SLURM = {
    "slurm_job": "SLURM_JOB_ID",
    "slurm_nodes": "SLURM_NNODES",
    "slurm_restarts": "SLURM_RESTART_COUNT",
}


def place() -> dict[str, str]:
    """Versions, processes, and the job of Slurm where there is one.

    Names of users, machines, accounts, partitions and folders are left out: runs are shown to
    others.
    """
    found = {name: os.environ.get(variable, "") for name, variable in _SLURM.items()}
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": version("torch"),
        "processes": str(launched().ranks),
        **{name: value for name, value in found.items() if value.isdecimal()},
    }
