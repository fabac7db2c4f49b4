"""Errors as answers: an HTTP status, and JSON with the code, what happened and the remedy."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from medgan.core.errors import (
    CodedError,
    ConfigError,
    DataError,
    EnvironmentFailure,
    MedganError,
    ModelError,
    as_coded,
)

_STATUS_OF = {ConfigError: 400, DataError: 422, ModelError: 409, EnvironmentFailure: 503}
"""Of errors of the rooms below; anything else is a fault of the server, 500."""


class Refused(MedganError):
    """A request that is not answered.

    Args:
        status: of HTTP.
        code, where, what, remedy: as of every error.
        headers: of the answer.
    """

    def __init__(
        self, status: int, code: str, where: str, what: str, remedy: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(code, where, what, remedy)
        self.status, self.headers = status, dict(headers or {})


def too_large(what: str) -> Refused:
    """413 of a body, an upload, or what one unpacks to."""
    return Refused(413, "E_UPLOAD", "the request", what, "crop or resample the scan")


def timed_out(seconds: float) -> Refused:
    """504."""
    return Refused(
        504, "E_TIMEOUT", "the request", f"took longer than {seconds:g} seconds",
        "try again when the server has less to do, or raise serve.timeout_s",
    )  # fmt: skip


def malformed(what: str, remedy: str) -> Refused:
    """400 of a body that does not say what the route needs."""
    return Refused(400, "E_REQUEST", "the request", what, remedy)


def answer_of(error: Exception) -> JSONResponse:
    """The answer that tells a client what went wrong.

    Texts of errors without a code are left out: they may hold paths or values.
    """
    coded = as_coded(error)
    status = coded.status if isinstance(coded, Refused) else _status_of(coded)
    headers = coded.headers if isinstance(coded, Refused) else {}
    return JSONResponse(body_of(coded), status, headers)


def body_of(error: CodedError) -> dict[str, Any]:
    """The JSON of an error."""
    parts = ("code", "where", "what", "remedy")
    return {"error": {part: getattr(error, part) for part in parts}}


def _status_of(error: CodedError) -> int:
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), 500)
