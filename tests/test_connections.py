"""What the tests try outside of this machine is refused, counted, and fails them."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.kit import connections
from tests.kit.network_guard.sitecustomize import LOG, is_here

FAR = "192.0.2.7"  # RFC 5737: no host has it
ROOT = Path(__file__).parents[1]


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """A list of attempts of its own, as these are made on purpose."""
    (tmp_path / "tried").touch()
    monkeypatch.setenv(LOG, str(tmp_path / "tried"))
    return connections.tried


def udp(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (host, 9))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.create_connection((FAR, 80)),
        lambda: socket.getaddrinfo("medgan.example", 80),
        lambda: socket.gethostbyname("medgan.example"),
        lambda: udp(FAR),
        lambda: urllib.request.urlopen("http://medgan.example/"),
    ],
)
def test_whatever_leads_to_another_host_is_refused_and_noted(attempt, noted):
    with pytest.raises(OSError, match="tests connect to no other host"):
        attempt()
    (line,) = noted()
    assert "::test_whatever_leads_to_another_host" in line
    assert noted(own=True) == [line]


def test_this_machine_and_unix_sockets_are_reached(noted, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
    assert noted() == []
    assert not any(map(is_here, (FAR, "medgan.example", b"medgan.example", "128.0.0.1")))


@pytest.mark.fault(47)
def test_a_python_process_that_a_test_starts_is_refused_too(noted):
    code = f"import socket; socket.create_connection(('{FAR}', 80))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"Refused: tests connect to no other host: socket.getaddrinfo {FAR}" in done.stderr
    assert noted() == [line for line in noted(own=True) if f"socket.getaddrinfo {FAR}" in line]
    assert len(noted()) == 1


@pytest.mark.fault(47)
def test_a_test_that_tries_it_fails_and_the_run_says_how_many_did(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "import socket\nfrom contextlib import suppress\n"
        "def test_far():\n with suppress(OSError): socket.gethostbyname('medgan.example')\n"
        "def test_near():\n pass\n"
    )
    alone = {k: v for k, v in os.environ.items() if k != LOG and "PYTEST" not in k}
    alone |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.kit.connections", "."],
        cwd=tmp_path, env=alone, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "2 passed, 1 error" in done.stdout
    assert "1 connections to other hosts tried" in done.stdout
    assert "socket.gethostbyname medgan.example" in done.stdout
