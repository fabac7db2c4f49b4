"""A Slurm cluster of two nodes on this machine, each with two pretended GPUs.

It needs root and the Debian packages slurm-wlm and munge, and no systemd.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.kit.stand_in_slurm import TEMPLATES

_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} {node}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} {node}
PartitionName=all Nodes=ALL Default=YES PriorityTier=1 GraceTime=30 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF State=UP
"""
_NODE = "CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN"


class Slurm:
    """Commands of a running cluster.

    Args:
        folder: of the cluster.
        work: where jobs are sent from; receives their logs.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        commands = folder / "bin"
        commands.mkdir()
        root = TEMPLATES.parents[1]
        (commands / "medgan").write_text(f'#!/bin/bash\nexec {sys.executable} -m medgan "$@"\n')
        (commands / "medgan").chmod(0o755)
        self._work = work
        self._variables = {
            **os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(root),
            "PATH": f"{commands}:{os.environ['PATH']}",
        }  # fmt: skip

    def __call__(self, *command: object) -> str:
        """Runs one of Slurm's commands."""
        done = subprocess.run(
            list(map(str, command)), cwd=self._work, env=self._variables, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def send(self, template: str, *arguments: object, options: tuple[str, ...] = ()) -> str:
        """Sends a batch script that asks for little; gives the number of its job."""
        little = ("--cpus-per-task=1", "--mem-per-cpu=1000", "--mem=1000")
        own = little[:2] if template != "merge.sbatch" else little[::2]
        return self("sbatch", "--parsable", *own, *options, TEMPLATES / template, *arguments)

    def job(self, number: str) -> dict[str, str]:
        """What the controller knows of a job."""
        words = self("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def states(self, number: str) -> list[str]:
        """Of the tasks of an array, or of one job."""
        lines = self("scontrol", "--oneliner", "show", "job", number).splitlines()
        return [line.split("JobState=")[1].split()[0] for line in lines]

    def ended(self, number: str) -> bool:
        """Whether a job, or all of an array, will not run again. Those that wait need not wait."""
        if "PENDING" in self.states(number):
            with suppress(AssertionError):  # it has begun in the meantime
                self("scontrol", "update", f"jobid={number}", "StartTime=now")
        return not {"PENDING", "RUNNING", "COMPLETING"} & set(self.states(number))

    def log(self, name: str) -> str:
        """What a job has printed, in all its turns."""
        return (self._work / name).read_text()


def until(true: Callable[[], object], seconds: float = 200) -> None:
    """Waits."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)


@contextmanager
def slurm_cluster(work: Path) -> Iterator[Slurm]:
    """Starts a cluster and ends it; the test is skipped where there can be none.

    Args:
        work: where jobs are sent from.
    """
    if os.getuid() or not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))):
        pytest.skip("needs root and Debian's slurm-wlm and munge")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path must be short
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    host = socket.gethostname().partition(".")[0]
    text = _CONF.format(folder=folder, host=host, ports=_free_ports(3), node=_NODE)
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    devices = [f"NodeName={node} Name=gpu File=/dev/{device}"
               for node in ("n1", "n2") for device in ("null", "zero")]  # fmt: skip
    (folder / "gres.conf").write_text("\n".join(devices) + "\n")
    try:
        yield _start(folder, work)
    finally:
        for pid in folder.rglob("*pid"):
            with suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), 15)
        time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, work: Path) -> Slurm:
    key, munge = folder / "munge" / "key", folder / "munge"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    variables = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    files = [f"--{what}={munge / what.partition('-')[0]}"
             for what in ("key-file", "socket", "pid-file", "log-file", "seed-file")]  # fmt: skip
    for command in (
        ["munged", "--force", *files], ["slurmctld"], ["slurmd", "-N", "n1"],
        ["slurmd", "-N", "n2"],
    ):  # fmt: skip
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{command[0]} does not start here: {done.stderr[-200:]}")
    slurm = Slurm(folder, work)
    try:
        until(lambda: slurm("sinfo", "-h", "-p", "all", "-o", "%T").split() == ["idle"], 20)
    except AssertionError:
        pytest.skip("the nodes do not come up here")
    return slurm


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
