"""medgan as a program that has imported everything: it starts in milliseconds, and can be killed.

A process imports once and forks a child for each command, so that a hundred commands which signals
interrupt take no more than what they do.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Started(NamedTuple):
    """A command that runs, or has run.

    Attributes:
        program: that started it.
        pid: of its process.
        log: what it printed.
    """

    program: "WarmProgram"
    pid: int
    log: Path

    def send(self, number: int) -> None:
        """A signal; none where it has ended."""
        if self.ended() is None:
            os.kill(self.pid, number)

    def ended(self) -> int | None:
        """Its exit status, or minus the signal that killed it; None while it runs."""
        return self.program.ask("poll", self.pid)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self.program.ask("wait", self.pid)

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")


class WarmProgram:
    """Starts commands."""

    def __init__(self, process: subprocess.Popen[str], logs: Path) -> None:
        self._process, self._logs, self._count = process, logs, 0

    def start(self, *arguments: object) -> Started:
        """Begins a command, such as `score`, `model`, `scans`."""
        self._count += 1
        (log := self._logs / f"{self._count}.log").touch()
        return Started(self, self.ask("start", str(log), *map(str, arguments)), log)

    def run(self, *arguments: object) -> int | None:
        """Runs a command in the process that forks: what it imports is there for all that follow.

        Returns:
            Its exit status.
        """
        return self.ask("run", str(self._logs / "0.log"), *map(str, arguments))

    def ask(self, *request: object) -> int | None:
        """Of the process that forks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def warm_program(logs: Path, **variables: str) -> Iterator[WarmProgram]:
    """A program that is warm, until the end of the block.

    Args:
        logs: folder that receives what commands print.
        variables: of its environment, beside those of this process.
    """
    logs.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.warm_program"], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip
    try:
        yield WarmProgram(process, logs)
    finally:
        process.communicate()


def _run(log: str, arguments: list[str]) -> int:
    """Runs a command that prints into a file; its exit status."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    from medgan.app.cli import app

    try:
        app(arguments, prog_name="medgan")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _child(log: str, arguments: list[str]) -> None:
    """Runs a command in a process that was forked for it."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):  # as in a fresh process
            signal.signal(number, signal.SIG_DFL)
        status = _run(log, arguments)
    finally:
        os._exit(status)


def _serve() -> None:
    import medgan.app.cli
    import medgan.app.pipeline  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")  # what commands print goes elsewhere
    ended: dict[int, int] = {}
    for line in sys.stdin:
        kind, *rest = json.loads(line)
        answer: int | None = None
        if kind == "run":
            answer = _run(rest[0], rest[1:])
        elif kind == "start":
            answer = os.fork()
            if not answer:
                _child(rest[0], rest[1:])
        elif rest[0] in ended:
            answer = ended[rest[0]]
        else:
            pid, status = os.waitpid(rest[0], os.WNOHANG if kind == "poll" else 0)
            if pid:
                answer = ended[pid] = os.waitstatus_to_exitcode(status)
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
