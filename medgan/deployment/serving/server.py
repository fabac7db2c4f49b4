"""The process: what it needs to start, its socket, its signals, its end."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.core.config import Config
from medgan.core.errors import ConfigError, EnvironmentFailure, ModelError
from medgan.deployment.followed_model import FollowedModel
from medgan.deployment.serving.metrics import check_extra

if TYPE_CHECKING:
    import uvicorn

    from medgan.deployment.serving.service import Service

log = logging.getLogger(__name__)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_CONNECTIONS = 256
_LOOK_S = 0.1
_SILENT_S = 10.0
"""After this time, or twice as long, a connection that has not asked anything is ended."""


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and to whom.

    Attributes:
        host, port: of the socket; port 0 takes a free one.
        hosts: further names under which it may be called.
        tokens: file of tokens; None lets everybody on this machine in.
        root: folder of scans by path.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    hosts: Sequence[str] = ()
    tokens: Path | None = None
    root: Path | None = None


def serve(
    model: str, listening: Listening, config: Config, tracking_uri: str, device: str,
    ready: Callable[[str], None],
) -> None:  # fmt: skip
    """Serves a model until SIGTERM or Ctrl-C, then finishes what was taken on.

    Args:
        model: folder, `models:/name@alias`, which is followed, or a fixed version.
        listening: where.
        config: sections `serve` and `score`.
        tracking_uri: of MLflow.
        device: of the networks.
        ready: called with the address once the server takes requests.

    Raises:
        EnvironmentFailure: E_EXTRA, E_TOKENS, E_SERVE, E_TRACKING.
        ConfigError: E_SERVE for an address beyond this machine without tokens; E_MISSING.
        ModelError: E_MODEL; E_UNCALIBRATED where the model neither scores nor draws.
    """
    check_extra()
    import uvicorn

    from medgan.deployment.serving.application import application
    from medgan.deployment.serving.places import Root
    from medgan.deployment.serving.scratch import Scratch
    from medgan.deployment.serving.service import Service
    from medgan.deployment.serving.tasks import warm_up
    from medgan.deployment.serving.tokens import Tokens

    refuse_open_address(listening)
    tokens = None if listening.tokens is None else Tokens(listening.tokens)
    root = None if listening.root is None else Root(_existing(listening.root))
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(contextlib.closing(_socket(listening)))
        scratch = stack.enter_context(Scratch())
        followed = FollowedModel(model, tracking_uri, device, config.serve.follow_s, warm_up)
        _refuse_useless(followed)
        stack.enter_context(followed)
        service = Service(followed, scratch, config.serve, config.score, root)
        stack.callback(service.close)
        hosts = {*LOOPBACK, _bracketed(listening.host), *listening.hosts}
        server = uvicorn.Server(
            uvicorn.Config(
                application(service, hosts, tokens), log_config=None, access_log=False,
                server_header=False, loop="asyncio", http="h11", ws="none", lifespan="on",
                limit_concurrency=_CONNECTIONS, h11_max_incomplete_event_size=2**16,
                timeout_graceful_shutdown=int(config.serve.timeout_s) + 1,
            )
        )  # fmt: skip

        def stop(sig: int, frame: object) -> None:
            if service.stopping or (sig == signal.SIGINT and service.worker.idle):
                server.should_exit = True
            service.stopping = True

        # uvicorn's own handler closes the socket at once and raises the signal again at its end.
        server.handle_exit = stop
        ready(f"http://{_bracketed(listening.host)}:{sock.getsockname()[1]}")
        asyncio.run(_run(server, service, sock))


async def _run(server: "uvicorn.Server", service: "Service", sock: socket.socket) -> None:
    """Serves; once asked to stop, answers 503 while the rest is finished."""

    async def end_when_done() -> None:
        while not (service.stopping and service.worker.idle):
            await asyncio.sleep(_LOOK_S)
        log.info("stopping: all requests are done")
        server.should_exit = True

    tasks = [asyncio.create_task(one) for one in (end_when_done(), drop_silent(server))]
    await server.serve(sockets=[sock])
    for task in tasks:
        task.cancel()


async def drop_silent(server: "uvicorn.Server") -> None:
    """Ends connections that ask nothing, again and again: uvicorn waits for headers without end.

    So many of them would keep everybody else out.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    before: dict[H11Protocol, object] = {}
    while True:
        await asyncio.sleep(_SILENT_S)
        silent: dict[H11Protocol, object] = {
            one: one.cycle  # of its last request
            for one in server.server_state.connections
            if isinstance(one, H11Protocol) and (one.cycle is None or one.cycle.response_complete)
        }
        for one, last in silent.items():
            if one in before and before[one] is last:
                one.transport.close()
        before = silent


def refuse_open_address(listening: Listening) -> None:
    """Refuses to serve other machines without tokens.

    Raises:
        ConfigError: E_SERVE.
    """
    if listening.tokens is None and not is_loopback(listening.host):
        raise ConfigError(
            "E_SERVE", "--host", "other machines could call the server, and it has no tokens",
            "name a file with --tokens, or serve 127.0.0.1",
        )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _socket(listening: Listening) -> socket.socket:
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        return socket.create_server((listening.host, listening.port), family=family, backlog=128)
    except OSError as error:
        raise EnvironmentFailure(
            "E_SERVE", f"port {listening.port}", (error.strerror or "cannot be used").lower(),
            "choose another with --port, or an address of this machine with --host",
        ) from None  # fmt: skip


def _refuse_useless(followed: FollowedModel) -> None:
    model = followed.current().model
    if model.calibration is None and not model.networks.synthesises:
        raise ModelError(
            "E_UNCALIBRATED", "the model", "neither scores nor draws scans",
            "serve a calibrated model, or one of synthesis",
        )  # fmt: skip


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError("E_MISSING", "--root", "no such folder", "name the folder of the scans")
    return folder


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
