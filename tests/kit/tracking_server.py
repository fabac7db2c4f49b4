"""MLflow's server on this machine, which can be killed and started again within a second."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from medgan.tracking.client import sqlite_uri

_SPAWNER = """
import os, signal, sys
import uvicorn
from mlflow.server.fastapi_app import app

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""
"""Imports the server once: that takes seconds, a fork of it none."""


class TrackingServer:
    """A server with a SQLite store; ended by `with`.

    Args:
        database: the store, which must exist.
    """

    def __init__(self, database: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        self.store = sqlite_uri(database)
        artifacts = database.with_name("artifacts").as_uri()
        environment = {
            "_MLFLOW_SERVER_FILE_STORE": self.store,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self._spawner = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SPAWNER, str(port)],
            env={**os.environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._child = 0
        self._say()

    def __enter__(self) -> "TrackingServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self.kill()
        assert self._spawner.stdin is not None
        assert self._spawner.stdout is not None
        self._spawner.stdin.close()
        self._spawner.wait()
        self._spawner.stdout.close()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        assert self._spawner.stdin is not None
        print("start", file=self._spawner.stdin, flush=True)
        self._child = int(self._say())
        while not self._answers():
            time.sleep(0.05)

    def kill(self) -> None:
        """In the middle of whatever it does."""
        os.kill(self._child, signal.SIGKILL)
        self._say()
        self._child = 0

    def kill_and_restart(
        self, kills: int, draw: random.Random, done: list[float], seconds: float = 3.0
    ) -> None:
        """Kills and starts it at random.

        Args:
            kills: how often.
            draw: what draws the times.
            done: receives the time of each kill.
            seconds: at most before a kill, and before the start that follows it.
        """
        for _ in range(kills):
            time.sleep(draw.uniform(0, seconds))
            self.kill()
            done.append(time.time())
            time.sleep(draw.uniform(0, seconds))
            self.start()

    def _say(self) -> str:
        assert self._spawner.stdout is not None
        return self._spawner.stdout.readline().strip()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False
