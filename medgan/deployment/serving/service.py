"""What the routes share: the model, the queue, the results; how a request waits."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request

from medgan.core.config import ScoreConfig, ServeConfig
from medgan.core.errors import ConfigError
from medgan.deployment.followed_model import Current, FollowedModel
from medgan.deployment.serving import tasks
from medgan.deployment.serving.guard import Visit
from medgan.deployment.serving.places import Root
from medgan.deployment.serving.refusals import Refused, timed_out
from medgan.deployment.serving.results import Results
from medgan.deployment.serving.scans import ScanReader
from medgan.deployment.serving.scratch import Scratch, remove
from medgan.deployment.serving.tasks import Drawing, Made, Wanted
from medgan.deployment.serving.worker import Job, Worker

_LOOK_S = 0.5
"""Between two looks whether a client still waits."""


@dataclass(frozen=True)
class Asked:
    """A scan to be scored.

    Attributes:
        images: files by channel; "" for the channel of a model with one.
        name: of the scan, from which its pseudonym is made.
        covariates: as text.
        wanted: beside the score.
        work: private folder for what is unpacked.
        root: that links must not lead out of.
    """

    images: Mapping[str, Path]
    name: str
    covariates: Mapping[str, str]
    wanted: Wanted
    work: Path
    root: Path | None = None


class Service:
    """Everything behind the routes.

    Args:
        followed: the model.
        scratch: private folder.
        settings: of the server.
        score: of scoring.
        root: of scans by path, if there are any.

    Attributes:
        stopping: whether new work is refused.
    """

    def __init__(
        self, followed: FollowedModel, scratch: Scratch, settings: ServeConfig,
        score: ScoreConfig, root: Root | None,
    ) -> None:  # fmt: skip
        self.followed, self.scratch, self.settings, self.root = followed, scratch, settings, root
        self._score = score
        self.worker = Worker(settings.queue)
        self.results = Results(settings.results, 60 * settings.keep_minutes)
        self.reader = ScanReader(settings.unpacked_mb * 2**20)
        self.stopping = False
        self._receiving = 0

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """A private folder for an upload, removed where none comes of it.

        Raises:
            Refused: E_QUEUE where as many are received as may wait: they fill the disk.
        """
        if self._receiving >= self.settings.queue:
            raise self.worker.full()
        self._receiving += 1
        folder = self.scratch.new_folder()
        try:
            yield folder
        except BaseException:
            remove(folder)
            raise
        finally:
            self._receiving -= 1

    async def score(self, request: Request, asked: Asked) -> dict[str, Any]:
        """Scores a scan and gives the JSON of its result. `asked.work` is removed afterwards.

        Raises:
            MedganError: why not.
        """
        visit: Visit = request.scope["medgan"]
        visit.case = self.reader.pseudonym(asked.name)

        def make(current: Current, folder: Path, job: Job) -> Made:
            _ = current.model.needed_calibration, job
            channels = current.model.preprocessing.channels
            images = {name or channels[0]: path for name, path in asked.images.items()}
            read = self.reader.read(images, asked.name, asked.covariates, asked.work, asked.root)
            return tasks.score(current, *read, folder, asked.wanted, self._score)

        return await self._answer(request, make, lambda: remove(asked.work))

    async def generate(self, request: Request, asked: Drawing) -> dict[str, Any]:
        """Draws synthetic scans and gives the JSON of the result.

        Raises:
            MedganError: why not.
        """
        if asked.count > self.settings.scans:
            raise ConfigError(
                "E_VALUE", "count", f"more than the {self.settings.scans} of one request",
                "ask several times, with another first",
            )  # fmt: skip

        def make(current: Current, folder: Path, job: Job) -> Made:
            return tasks.generate(current, asked, folder, lambda: job.given_up)

        return await self._answer(request, make, lambda: None)

    async def _answer(
        self,
        request: Request,
        make: Callable[[Current, Path, Job], Made],
        cleanup: Callable[[], None],
    ) -> dict[str, Any]:
        """Puts work into the queue and waits for it, while the client does and time lasts."""
        visit: Visit = request.scope["medgan"]

        def work(job: Job) -> dict[str, Any]:
            current = self.followed.current()
            visit.version = current.version
            folder = self.scratch.new_folder()
            try:
                made = make(current, folder, job)
            except BaseException:
                remove(folder)
                raise
            return self._keep(visit, current, made, folder, job)

        try:
            job = self.worker.submit(work, cleanup)
        except Refused:
            cleanup()
            raise
        try:
            return await self._wait(request, job, self.deadline(visit))
        except BaseException:
            self.worker.drop(job)
            raise

    def _keep(
        self, visit: Visit, current: Current, made: Made, folder: Path, job: Job
    ) -> dict[str, Any]:
        id_ = self.results.new_id()
        place = f"/v1/results/{id_}"
        answer = {
            "id": id_,
            "model": {"version": current.version, "digest": current.model.digest},
            **made.answer,
            "links": {name: f"{place}/{name}" for name in made.files},
            "expires_s": round(60 * self.settings.keep_minutes),
            "note": tasks.NOTE,
        }
        if job.given_up:
            remove(folder)
        else:
            self.results.add(id_, visit.user.name, answer, made.files, folder)
        return answer

    async def _wait(self, request: Request, job: Job, deadline: float) -> dict[str, Any]:
        waiting = asyncio.wrap_future(job.future)
        try:
            while not waiting.done():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise timed_out(self.settings.timeout_s)
                await asyncio.wait({waiting}, timeout=min(left, _LOOK_S))
                if not waiting.done() and await request.is_disconnected():
                    raise ClientDisconnect
            return waiting.result()
        finally:
            waiting.cancel()  # or asyncio would log what a job in vain raises

    def deadline(self, visit: Visit) -> float:
        """Monotonic seconds at which a request ends."""
        return visit.start + self.settings.timeout_s

    def close(self) -> None:
        """Ends the worker, after what runs."""
        self.worker.close()
