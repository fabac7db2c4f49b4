"""The stack of deploy/compose.yaml without containers: PostgreSQL, S3, MLflow with accounts."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

ADMIN, PASSWORD = "admin", "a long password for the administrator"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu"}
_SECONDS = 240
"""Until a server answers, on a machine that does other things as well."""


def postgresql() -> Path | None:
    """Folder of PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


class ServerStack:
    """PostgreSQL, an S3 server and MLflow with accounts on this machine; ended by `with`.

    Args:
        folder: of all their files; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open = ExitStack()
        self.database_port, self.s3_port, self.port = (_free_port() for _ in range(3))
        self.uri = f"http://127.0.0.1:{self.port}"
        self.s3 = f"http://127.0.0.1:{self.s3_port}"

    def __enter__(self) -> "ServerStack":
        try:
            self._start_database()
            self._start_s3()
            self._start_mlflow()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def database(self, name: str) -> str:
        """The URI of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.database_port}/{name}"

    def account(self, user: str, password: str) -> dict[str, str]:
        """What MLflow's clients read from the environment."""
        return {
            "MLFLOW_TRACKING_URI": self.uri, "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password,
        }  # fmt: skip

    def add_user(self, user: str, password: str) -> None:
        """An account; without more it may read, and make models and experiments of its own."""
        login = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/users/create",
            json.dumps({"username": user, "password": password}).encode(),
            {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60):
            return

    def _start_database(self) -> None:
        programs = postgresql()
        assert programs is not None
        # pytest's folders are closed to other users.
        data = self._open.enter_context(TemporaryDirectory(prefix="postgresql-"))
        as_owner = []
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            shutil.chown(data, "postgres")
            as_owner = ["runuser", "-u", "postgres", "--"]
        run = {"check": True, "capture_output": True, "cwd": "/"}
        subprocess.run(
            [*as_owner, programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], **run
        )
        self._background(
            *as_owner, str(programs / "postgres"), "-D", data, "-h", "127.0.0.1",
            "-p", str(self.database_port), "-k", "", "-c", "fsync=off",
        )  # fmt: skip
        where = ["-h", "127.0.0.1", "-p", str(self.database_port), "-U", "postgres"]
        _wait(lambda: subprocess.run([programs / "pg_isready", *where], capture_output=True)
              .returncode == 0)  # fmt: skip
        for name in ("mlflow", "accounts"):
            subprocess.run([programs / "createdb", *where, name], **run)

    def _start_s3(self) -> None:
        import boto3

        self._background(
            sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p",
            str(self.s3_port),
        )  # fmt: skip
        _wait(lambda: _answers(self.s3))
        client = boto3.client(
            "s3", endpoint_url=self.s3, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        client.create_bucket(Bucket="mlflow")
        client.close()

    def _start_mlflow(self) -> None:
        accounts = self.folder / "accounts.ini"
        accounts.write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = {self.database('accounts')}\nadmin_username = {ADMIN}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 60\n"
        )
        environment = {
            **KEYS, "MLFLOW_S3_ENDPOINT_URL": self.s3, "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
        }  # fmt: skip
        server = self._background(
            sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--app-name", "basic-auth",
            "--backend-store-uri", self.database("mlflow"), "--artifacts-destination",
            "s3://mlflow", "--serve-artifacts", "--host", "127.0.0.1", "--port", str(self.port),
            "--workers", "1", environment=environment,
        )  # fmt: skip
        _wait(lambda: server.poll() is not None or _answers(f"{self.uri}/health"))
        assert server.poll() is None, (self.folder / "servers.log").read_text()[-2000:]

    def _background(
        self, *command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self._open.enter_context((self.folder / "servers.log").open("ab"))
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd="/", start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._open.callback(_end, process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stops a server with all processes that it has started."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=15)
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _wait(ready) -> None:
    ends = time.monotonic() + _SECONDS
    while not ready():
        assert time.monotonic() < ends, "a server did not start"
        time.sleep(0.2)
