"""What every request passes before a route sees it: host, origin, token, role, size; then the log.

Refused requests are answered before their body is read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from medgan.core.errors import MedganError
from medgan.deployment.serving.metrics import Metrics
from medgan.deployment.serving.refusals import Refused, answer_of, timed_out, too_large
from medgan.deployment.serving.tokens import LOCAL, OPERATOR, Tokens, User

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
NIIVUE = "/v1/results/niivue/niivue.umd.js"
OPEN = ("/health", NIIVUE)
"""Without a token: what a load balancer asks, and a script that pages load by themselves."""
FOR_OPERATORS = ("/metrics", "/v1/reload")
WORK = ("/v1/score", "/v1/score/upload", "/v1/generate")
"""Refused while the server stops."""
UPLOAD = "/v1/score/upload"
MOST_BODY = 2**16
"""Bytes of any other body."""
_METHODS = ("GET", "HEAD", "POST", "DELETE")
_SAFE = {
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
}


@dataclass
class Visit:
    """What is known of a request while it is answered; routes find it in `request.scope`.

    Attributes:
        user: whose token it brought.
        start: monotonic seconds.
        case: pseudonym of the scan, for the log.
        version: of the model that answered, for the log.
    """

    user: User = LOCAL
    start: float = field(default_factory=time.monotonic)
    case: str = "-"
    version: str = "-"


class Guard:
    """ASGI middleware.

    Args:
        app: the routes.
        hosts: names under which the server may be called, without port.
        tokens: None lets everybody in as an operator.
        metrics: count the answers.
        stopping: whether new work is refused.
        timeout_s: seconds in which a body has to be there.
    """

    def __init__(
        self, app: "ASGIApp", hosts: Collection[str], tokens: Tokens | None, metrics: Metrics,
        stopping: Callable[[], bool], timeout_s: float,
    ) -> None:  # fmt: skip
        self._app, self._tokens, self._metrics = app, tokens, metrics
        self._hosts = {host.casefold() for host in hosts}
        self._stopping, self._timeout_s = stopping, timeout_s

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers one connection."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        visit, status = Visit(), 0

        async def sending(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                known = {name.lower() for name, _ in message["headers"]}
                extra = [(name, value) for name, value in _SAFE.items() if name not in known]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            scope["medgan"] = visit
            visit.user = self._let_in(scope)
            await self._app(scope, self._limited(scope, receive), sending)
        except ClientDisconnect:
            status = 0
        except Exception as error:
            if not isinstance(error, MedganError):
                log.error("unexpected %s", type(error).__name__, exc_info=log.isEnabledFor(10))
            if not status:
                await answer_of(error)(scope, receive, sending)
        finally:
            self._note(scope, visit, status or 499)

    def _let_in(self, scope: "Scope") -> User:
        """The user of a request.

        Raises:
            Refused: E_HOST, E_ACCESS, E_STOPPING, E_UPLOAD.
        """
        headers, path = Headers(scope=scope), scope["path"]
        self._check_host(headers)
        user = LOCAL if path in OPEN else self._user(headers)
        if path in FOR_OPERATORS and user.role != OPERATOR:
            raise Refused(403, "E_ACCESS", "the token", "is no operator's", "ask an operator")
        if path in WORK and self._stopping():
            raise Refused(
                503, "E_STOPPING", "the server", "it is being stopped", "try again in a minute",
                {"Retry-After": "60", "Connection": "close"},
            )  # fmt: skip
        length = headers.get("content-length", "0")
        if path != UPLOAD and length.isdigit() and int(length) > MOST_BODY:
            raise too_large(f"its body is larger than {MOST_BODY} bytes")
        return user

    def _check_host(self, headers: Headers) -> None:
        """Refuses names that are not the server's: a page elsewhere may have them point here."""
        origin = headers.get("origin")
        host = _without_port(headers.get("host", ""))
        if host not in self._hosts:
            raise Refused(
                400, "E_HOST", "the request", "the server is not known under this name",
                "start it with --allow-host NAME",
            )  # fmt: skip
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise Refused(
                403, "E_HOST", "the request", "it comes from the page of another site",
                "call the server from a program",
            )  # fmt: skip

    def _user(self, headers: Headers) -> User:
        if self._tokens is None:
            return LOCAL
        kind, _, token = headers.get("authorization", "").partition(" ")
        user = self._tokens.user_of(token.strip()) if kind.lower() == "bearer" else None
        if user is None:
            raise Refused(
                401, "E_ACCESS", "the request", "no valid token",
                "send the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return user

    def _limited(self, scope: "Scope", receive: "Receive") -> "Receive":
        """Refuses a body that comes too slowly, or is too large; an upload counts its own."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        received = 0

        async def limited() -> "Message":
            nonlocal received
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise timed_out(self._timeout_s) from None
            received += len(message.get("body", b""))
            if received > MOST_BODY and scope["path"] != UPLOAD:
                raise too_large(f"its body is larger than {MOST_BODY} bytes")
            return message

        return limited

    def _note(self, scope: "Scope", visit: Visit, status: int) -> None:
        """A line of the log and the metrics: the route, never the path or the query."""
        seconds = time.monotonic() - visit.start
        route = getattr(scope.get("route"), "path", None)
        if route is None:  # refused before routing, or not found
            known = (*OPEN, *FOR_OPERATORS, *WORK)
            route = scope["path"] if scope["path"] in known else "other"
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.count(route, status, seconds)
        log.info(
            "%s %s %d %.0f ms user=%s case=%s model=%s",
            method, route, status, 1000 * seconds, visit.user.name, visit.case, visit.version,
        )  # fmt: skip


def _without_port(host: str) -> str:
    """A host without its port, in lower case; IPv6 keeps its brackets."""
    name, separator, port = host.rpartition(":")
    return (name if separator and port.isdigit() else host).casefold()
