"""The routes."""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from medgan.core.errors import ConfigError, MedganError
from medgan.core.version import __version__
from medgan.deployment.serving.guard import NIIVUE, UPLOAD, Guard
from medgan.deployment.serving.metrics import Metrics
from medgan.deployment.serving.refusals import Refused, answer_of, malformed
from medgan.deployment.serving.requests import (
    Generate,
    ScoreByPath,
    as_text,
    fields_of,
    invalid,
    wanted,
)
from medgan.deployment.serving.service import Asked, Service
from medgan.deployment.serving.tasks import Drawing
from medgan.deployment.serving.tokens import Tokens
from medgan.deployment.serving.uploads import Upload

_TYPES = {".gz": "application/gzip", ".html": "text/html; charset=utf-8"}
_SWEEP_S = 5.0
_SCAN = "scan"
"""Field of an upload for a model of one channel."""


def application(service: Service, hosts: Collection[str], tokens: Tokens | None) -> Guard:
    """The ASGI application.

    Args:
        service: behind the routes.
        hosts: names under which it may be called.
        tokens: None lets everybody in.
    """

    @asynccontextmanager
    async def sweeping(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(service))
        yield
        task.cancel()

    app = FastAPI(
        title="medgan",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=sweeping,
        redirect_slashes=False,
    )
    metrics = Metrics(
        lambda: service.followed.state, lambda: service.worker.waiting,
        lambda: len(service.results),
    )  # fmt: skip
    _add_answers_to_errors(app)
    _add_state(app, service, metrics)
    _add_work(app, service)
    _add_results(app, service)
    return Guard(app, hosts, tokens, metrics, lambda: service.stopping, service.settings.timeout_s)


async def _sweep(service: Service) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        await run_in_threadpool(service.results.sweep)
        await run_in_threadpool(service.scratch.touch)


def _add_answers_to_errors(app: FastAPI) -> None:
    async def coded(request: Request, error: Exception) -> Response:
        return answer_of(error)

    async def invalid_body(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer_of(invalid(list(error.errors())))

    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, Refused):  # while FastAPI read the body
            return answer_of(error.__cause__)
        what = {404: "no such route", 405: "not a method of this route"}
        text = what.get(error.status_code, "its body cannot be read")
        return answer_of(
            Refused(error.status_code, "E_REQUEST", "the request", text, "see /openapi.json")
        )

    app.add_exception_handler(MedganError, coded)
    app.add_exception_handler(RequestValidationError, invalid_body)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(Exception, coded)


def _add_state(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> JSONResponse:
        """Whether the server lives and takes work; 503 while it stops."""
        state = service.followed.state
        values = {
            "live": True, "ready": not service.stopping, "model": state.version,
            "failure": None if state.failure is None else state.failure.code,
        }  # fmt: skip
        return JSONResponse(values, 503 if service.stopping else 200)

    @app.get("/metrics")
    async def metric_values() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        """What the model is and can do."""
        current = service.followed.current()
        grid, calibration = current.model.preprocessing, current.model.calibration
        return {
            "version": current.version,
            "digest": current.model.digest,
            "scores": calibration is not None,
            "generates": bool(current.model.networks.synthesises),
            "channels": list(grid.channels),
            "spacing_mm": list(grid.spacing),
            "shape": list(grid.shape),
            "conditions": [condition.name for condition in grid.conditions],
            "covariates": [] if calibration is None else list(calibration.adjusts),
            "calibration_scans": 0 if calibration is None else len(calibration.scores),
        }

    @app.post("/v1/reload")
    async def reload() -> dict[str, Any]:
        """Looks at once whether the alias has moved; for operators."""
        state = await run_in_threadpool(service.followed.check, True)
        failure = None if state.failure is None else str(state.failure)
        return {"model": state.version, "loads": state.loads, "failure": failure}


def _add_work(app: FastAPI, service: Service) -> None:
    @app.post("/v1/score")
    async def score(body: ScoreByPath, request: Request) -> dict[str, Any]:
        """Scores a scan of the served folder."""
        _refuse_early(service)
        if service.root is None:
            raise ConfigError(
                "E_USAGE", "the server", "serves no folder", f"upload the scan to {UPLOAD}"
            )
        found = {name: service.root.find(path) for name, path in body.images().items()}
        name = str(next(iter(found.values())).relative_to(service.root.folder))
        asked = Asked(
            found, name, as_text(body.covariates), wanted(body), service.scratch.new_folder(),
            service.root.folder,
        )  # fmt: skip
        return await service.score(request, asked)

    @app.post(UPLOAD, openapi_extra=_FORM)
    async def upload(request: Request) -> dict[str, Any]:
        """Scores an uploaded scan: NIfTI, or a zip of one DICOM series."""
        _refuse_early(service)
        with service.receiving() as work:
            asked = await _received(service, request, work)
        return await service.score(request, asked)

    @app.post("/v1/generate")
    async def generate(body: Generate, request: Request) -> dict[str, Any]:
        """Draws synthetic scans."""
        service.worker.refuse_if_full()
        asked = Drawing(
            body.count, body.seed, body.first, body.conditions, body.truncation, body.text
        )
        return await service.generate(request, asked)


def _refuse_early(service: Service) -> None:
    """What can be said before a scan is received or looked for."""
    _ = service.followed.current().model.needed_calibration
    service.worker.refuse_if_full()


async def _received(service: Service, request: Request, work: Path) -> Asked:
    """The scan of an upload, in a private folder."""
    form = Upload(request.headers.get("content-type", ""), work, service.settings.upload_mb * 2**20)
    await form.receive(request.stream())
    fields = fields_of(form.fields)
    channels = service.followed.current().model.preprocessing.channels
    expected = (_SCAN,) if len(channels) == 1 else channels
    if set(form.files) != set(expected):
        raise malformed(
            "its form has other files than the model takes", f"send {', '.join(expected)}"
        )
    images = {"" if len(channels) == 1 else name: path for name, path in form.files.items()}
    name = await run_in_threadpool(_digest, list(form.files.values()))
    return Asked(images, name, as_text(fields.covariates), wanted(fields), work)


def _digest(paths: list[Path]) -> str:
    """Of uploaded files, in place of a name: the same scan has the same pseudonym."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _add_results(app: FastAPI, service: Service) -> None:
    @app.get(NIIVUE)
    def niivue() -> Response:
        """The viewer that pages load for the 3D view."""
        return Response(_niivue(), media_type="text/javascript")

    @app.get("/v1/results/{id_}")
    def result(id_: str, request: Request) -> dict[str, Any]:
        """The JSON of a result once more."""
        return service.results.get(id_, request.scope["medgan"].user).answer

    @app.get("/v1/results/{id_}/{name}")
    def result_file(id_: str, name: str, request: Request) -> Response:
        """A file of a result: the map, the page, an image."""
        data = service.results.read(id_, name, request.scope["medgan"].user)
        ending = name[name.rfind(".") :]
        return Response(data, media_type=_TYPES.get(ending, "application/octet-stream"))

    @app.delete("/v1/results/{id_}", status_code=204)
    def forget(id_: str, request: Request) -> Response:
        """Deletes a result before its time."""
        service.results.delete(id_, request.scope["medgan"].user)
        return Response(status_code=204)


@cache
def _niivue() -> bytes:
    return gzip.decompress((files("medgan.reporting") / "niivue" / "niivue.umd.js.gz").read_bytes())


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [_SCAN],
                    "properties": {
                        _SCAN: {
                            "type": "string", "format": "binary",
                            "description": "NIfTI, or a zip of one DICOM series; models of several "
                            "channels take a file for each, under its name",
                        },
                        "covariates": {"type": "string", "description": "JSON"},
                        "map": {"type": "boolean"},
                        "page": {"type": "boolean"},
                    },
                }
            }
        },
    }
}  # fmt: skip
