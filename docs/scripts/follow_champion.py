"""Serves a champion to clients while another version is promoted and given back.

    python docs/scripts/follow_champion.py NAME MANIFEST FOLDER PATTERN -o OUT [--clients 4]
        [--set tracking.uri=...] [--gate my_gate.yaml]

NAME has a champion, and a challenger that passes the gate. FOLDER holds the scans, PATTERN such as
`imagesTr/*.nii.gz` names them. Prints the answers by version and the requests that failed.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from serve_load import Server


class Clients:
    """Clients that have scans scored, each the next as soon as it has an answer.

    Args:
        server: of the champion.
        scans: below `root`.
        root: of the server.
        count: of clients.
    """

    def __init__(self, server: Server, scans: Sequence[Path], root: Path, count: int) -> None:
        self._server, self._scans, self._root = server, scans, root
        self.answers: Counter[str] = Counter()
        self.failures: list[tuple[int, bytes]] = []
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        while not self._ended.is_set():
            scan = self._scans[number % len(self._scans)]
            body = json.dumps({"path": str(scan.relative_to(self._root))}).encode()
            status, text = self._server.post("/v1/score", body)
            number += 1
            with self._lock:
                if status == 200:
                    self.answers[json.loads(text)["model"]["version"]] += 1
                else:
                    self.failures.append((status, text))

    def until_answered_by(self, others: set[str], seconds: float = 300) -> str:
        """Waits for an answer of a version that is not among others; gives it.

        Raises:
            TimeoutError: after so many seconds.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._lock:
                found = set(self.answers) - others
            if found:
                return found.pop()
            time.sleep(0.2)
        raise TimeoutError

    def until_only(self, version: str, count: int = 8, seconds: float = 300) -> None:
        """Waits for so many answers in a row of one version.

        Raises:
            TimeoutError: after so many seconds.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._lock:
                before = self.answers.copy()
            self._more(count, end)
            with self._lock:
                if set(self.answers - before) == {version}:
                    return
        raise TimeoutError

    def _more(self, count: int, end: float) -> None:
        start = self.answers.total()
        while self.answers.total() < start + count and time.monotonic() < end:
            time.sleep(0.1)


def medgan(*arguments: str) -> None:
    """A verb, which must succeed."""
    subprocess.run([sys.executable, "-m", "medgan", *arguments], check=True)


def timed(what: str, clients: Clients, do: Callable[[], object]) -> None:
    """Says how long something took, and what was answered meanwhile."""
    before, start = clients.answers.copy(), time.monotonic()
    do()
    answers = dict(clients.answers - before)
    print(f"{what}: {time.monotonic() - start:.0f} s, answered meanwhile {answers}", flush=True)


def main() -> None:
    """Promotes, waits, rolls back, waits; prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("name")
    options.add_argument("manifest")
    options.add_argument("folder", type=Path)
    options.add_argument("pattern")
    options.add_argument("-o", "--out", type=Path, required=True)
    options.add_argument("--clients", type=int, default=4)
    options.add_argument("--gate", default="gate")
    options.add_argument("--set", action="append", default=[], dest="settings")
    given = options.parse_args()
    scans = sorted(given.folder.glob(given.pattern))[:40]
    sets = [part for text in given.settings for part in ("--set", text)]
    uri = f"models:/{given.name}@champion"
    promote = ["promote", given.name, "--to", "champion", *sets]
    with Server(uri, given.folder, *sets) as server:
        with Clients(server, scans, given.folder, given.clients) as clients:
            first = clients.until_answered_by(set())
            gate = [*promote, "--gate", given.gate, "--data", given.manifest]
            timed("promotion", clients, lambda: medgan(*gate, "-o", str(given.out / "gate")))
            second = clients.until_answered_by({first})
            timed(f"until {second} alone answers", clients, lambda: clients.until_only(second))
            back = ["--rollback", "--why", "trial", "-o", str(given.out / "back")]
            timed("roll back", clients, lambda: medgan(*promote, *back))
            timed(f"until {first} alone answers", clients, lambda: clients.until_only(first))
    print(f"{clients.answers.total()} answers {dict(clients.answers)}, status {server.status}")
    print(f"{len(clients.failures)} failures {clients.failures[:3]}")


if __name__ == "__main__":
    main()
