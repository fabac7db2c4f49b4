"""Measures `medgan serve` on this machine: latency, throughput, memory.

    python docs/scripts/serve_load.py MODEL FOLDER PATTERN [-n 100] [--memory 1000]

FOLDER holds the scans, PATTERN such as `imagesTr/*.nii.gz` names them. The server is started on a
free port of the loopback address and stopped by SIGTERM.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

Send = Callable[[Path], int]
"""Sends a scan; gives the status."""


class Server:
    """`medgan serve` in a process of its own; a context manager.

    Args:
        model: folder or URI.
        root: of scans by path.
        settings: further arguments of the verb.
    """

    def __init__(self, model: str, root: Path | None, *settings: str) -> None:
        self._command = [sys.executable, "-m", "medgan", "serve", model, "--port", "0", *settings]
        self._command += [] if root is None else ["--root", str(root)]
        self.log: list[str] = []

    def __enter__(self) -> "Server":
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[-1]
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        return self

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.status = self.process.wait(timeout=120)
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def rss_mb(self) -> float:
        """Resident memory of the server and its children, in MB."""
        server = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in [server, *server.children(True)]) / 2**20

    def get(self, route: str) -> bytes:
        """The body of an answer.

        Raises:
            HTTPError: unless its status is 200.
        """
        with urllib.request.urlopen(self.address + route, timeout=120) as answer:
            return answer.read()

    def post(self, route: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
        """Status and body of the answer; errors, too."""
        request = urllib.request.Request(
            self.address + route, body, {"Content-Type": kind}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def form(files: dict[str, bytes], fields: dict[str, str] | None = None) -> tuple[bytes, str]:
    """A multipart form and its content type."""
    edge = uuid.uuid4().hex
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
        + data
        for name, data in files.items()
    ]
    parts += [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}'.encode()
        for name, text in (fields or {}).items()
    ]
    return b"\r\n".join(
        [*parts, f"--{edge}--\r\n".encode()]
    ), f"multipart/form-data; boundary={edge}"


def senders(server: Server, root: Path) -> dict[str, Send]:
    """The ways to have a scan scored, with map and page, or with the score alone."""

    def by_path(scan: Path, **more: bool) -> int:
        body = {"path": str(scan.relative_to(root)), **more}
        return server.post("/v1/score", json.dumps(body).encode())[0]

    def by_upload(scan: Path) -> int:
        return server.post("/v1/score/upload", *form({"scan": scan.read_bytes()}))[0]

    return {
        "by path": by_path,
        "by upload": by_upload,
        "by path, score alone": lambda scan: by_path(scan, map=False, page=False),
    }


def latencies(send: Send, scans: Sequence[Path], count: int) -> np.ndarray:
    """Seconds of requests one after the other.

    Raises:
        SystemExit: when one fails.
    """
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        status = send(scans[number % len(scans)])
        seconds.append(time.perf_counter() - start)
        if status != 200:
            raise SystemExit(f"status {status}")
    return np.array(seconds)


def throughput(send: Send, scans: Sequence[Path], count: int, clients: int = 4) -> float:
    """Answers a second to several clients at once."""
    threads = [
        threading.Thread(target=latencies, args=(send, scans[n:], count // clients))
        for n in range(clients)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * (count // clients) / (time.perf_counter() - start)


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model")
    options.add_argument("folder", type=Path)
    options.add_argument("pattern")
    options.add_argument("-n", "--count", type=int, default=100)
    options.add_argument("--memory", type=int, default=0, help="requests over which memory is seen")
    given = options.parse_args()
    scans = sorted(given.folder.glob(given.pattern))[:40]
    with Server(given.model, given.folder) as server:
        for name, send in senders(server, given.folder).items():
            latencies(send, scans, 3)
            before = psutil.Process(server.process.pid).cpu_times()
            found = latencies(send, scans, given.count)
            after = psutil.Process(server.process.pid).cpu_times()
            cpu = (after.user + after.system - before.user - before.system) / given.count
            half, most = np.quantile(found, (0.5, 0.95))
            print(f"{name}: p50 {half:.3f} s, p95 {most:.3f} s, {cpu:.3f} processor s", flush=True)
        rate = throughput(senders(server, given.folder)["by upload"], scans, given.count)
        print(f"4 clients, by upload: {rate:.2f} a second", flush=True)
        if given.memory:
            send = senders(server, given.folder)["by upload"]
            marks = [server.rss_mb()]
            for _ in range(10):
                latencies(send, scans, given.memory // 10)
                marks.append(server.rss_mb())
                print(f"memory {marks[-1]:.0f} MB", flush=True)
            print(f"memory over {given.memory}: {marks[0]:.0f} to {marks[-1]:.0f} MB")
    text = "".join(server.log)
    print(f"status {server.status}; {len(re.findall(' 200 ', text))} answers with 200")


if __name__ == "__main__":
    main()
