"""Slurm's commands as a few lines of bash: what a batch script asks of them is done or noted.

Enough for the logic of the templates in deploy/slurm, in a fraction of a second and where there is
no Slurm. `kit/slurm.py` starts the real one.
"""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import medgan

TEMPLATES = Path(medgan.__file__).parents[1] / "deploy" / "slurm"
_SRUN = """
while [[ $1 == --* ]]; do shift; done
worst=0
export SLURM_LAUNCH_NODE_IPADDR=10.0.0.7
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
    SLURM_PROCID=$rank SLURM_LOCALID=$((rank % (SLURM_NTASKS / SLURM_NNODES))) "$@" &
    tasks[rank]=$!
    echo $! >> "$NOTES/tasks"
done
for task in "${tasks[@]}"; do
    wait "$task"
    status=$?
    ((status > worst)) && worst=$status
done
exit "$worst"
"""
_COMMANDS = {
    "srun": _SRUN,
    "scontrol": '[ "$1" = requeue ] && echo "$2" >> "$NOTES/requeued"',
    "scancel": 'echo "$@" >> "$NOTES/scancel"; kill -TERM $(cat "$NOTES/tasks")',
    "squeue": 'cat "$NOTES/state"',
}


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        status: of the batch script.
        text: that it printed.
        requeued: whether it asked for another turn.
    """

    status: int
    text: str
    requeued: bool


class StandIn:
    """A cluster of the stand-ins.

    Args:
        folder: receives commands and notes.
        program: bash of the command `medgan`.
    """

    def __init__(self, folder: Path, program: str) -> None:
        self._notes = folder / "notes"
        self._notes.mkdir()
        self._commands = folder / "bin"
        self._commands.mkdir()
        for name, text in {**_COMMANDS, "medgan": program}.items():
            (self._commands / name).write_text(f"#!/bin/bash\n{text}\n")
            (self._commands / name).chmod(0o755)

    def run(
        self,
        template: str,
        *arguments: str,
        nodes: str = "n1",
        tasks: int = 1,
        stops: bool = False,
        state: str = "RUNNING",
        **variables: str,
    ) -> Ended:
        """Runs a batch script as Slurm would.

        Args:
            template: name of a file in deploy/slurm.
            arguments: of the script.
            nodes: of the job, with commas.
            tasks: on all nodes.
            stops: sends the signal that the script asks for, once its tasks say `ready`.
            state: of the job, as squeue says it after the work.
            variables: more of Slurm's environment variables, without their prefix.
        """
        for note in self._notes.iterdir():
            note.unlink()
        (self._notes / "state").write_text(state)
        given = {
            "JOB_ID": "4711", "JOB_NODELIST": nodes, "NNODES": str(nodes.count(",") + 1),
            "NTASKS": str(tasks), "CPUS_PER_TASK": "2", **variables,
        }  # fmt: skip
        process = subprocess.Popen(
            ["bash", str(TEMPLATES / template), *arguments],
            env={
                "PATH": f"{self._commands}:{os.environ['PATH']}", "NOTES": str(self._notes),
                **{f"SLURM_{name}": value for name, value in given.items()},
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if stops:
            until = time.monotonic() + 60
            while len(list(self._notes.glob("ready*"))) < tasks:
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(getattr(signal, f"SIG{signal_of(template)}"))
        text, _ = process.communicate(timeout=60)
        return Ended(process.returncode, text, (self._notes / "requeued").exists())


def options(template: str) -> dict[str, str]:
    """The #SBATCH lines of a template."""
    found = re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", (TEMPLATES / template).read_text(), re.M)
    return dict(found)


def signal_of(template: str) -> str:
    """The signal that a script asks for before its time is over, which goes to the script alone."""
    batch, name, seconds = re.split("[:@]", options(template)["signal"])
    assert batch == "B"
    assert int(seconds) >= 60
    return name
