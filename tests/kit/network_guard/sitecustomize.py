"""No process of the tests reaches another host: what it tries is refused and written down.

Python imports `sitecustomize` when it starts, so that child processes that inherit PYTHONPATH are
watched, too. Python's audit events precede each connection and each search for an address.
Not covered are sockets that C libraries or other programs open, and children with an environment
of their own or started by `python -I`.
"""

import os
import socket
import sys

LOG = "MEDGAN_TEST_CONNECTIONS"
"""Variable that names the file in which attempts are written down."""
_ADDRESS_AT = {
    "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0, "socket.gethostbyaddr": 0,
}  # fmt: skip
"""Watched events, and which of their arguments is the address."""
_HERE = ("", "localhost", "::1", "0.0.0.0", "::")


class Refused(ConnectionError):
    """A connection to another host."""


def is_here(host: object) -> bool:
    """Whether a host is this machine."""
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return text in _HERE or text.startswith(("127.", "::ffff:127.")) or text == socket.gethostname()


def watch(event: str, arguments: tuple, watched: dict[str, int] = _ADDRESS_AT) -> None:
    """An audit hook that refuses what leads to another host.

    Raises:
        Refused: the attempt is in the file that the variable names.
    """
    if event not in watched:
        return
    address = arguments[watched[event]]
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if not isinstance(address, tuple):  # a Unix socket, or one that is connected already
            return
        address = address[0]
    if is_here(address) or LOG not in os.environ:
        return
    line = f"{who()} {event} {address}\n"
    with open(os.environ[LOG], "a") as file:  # one write, so that processes do not mix
        file.write(line)
    raise Refused(f"tests connect to no other host: {event} {address}")


def who() -> str:
    """The process of the test run that this one belongs to, and the test that it runs."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    test = os.environ.get("PYTEST_CURRENT_TEST", "no test").rpartition(" (")[0]
    return f"{worker} {test.replace(' ', '_') or 'no_test'}"


if LOG in os.environ:
    sys.addaudithook(watch)
