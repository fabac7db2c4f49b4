"""Work for executors: some cases are done, some end their process, some cannot be used."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from medgan.core.errors import DataError, EnvironmentFailure
from medgan.model.digest import digest_of
from medgan.model.model import Model
from medgan.workflows.executor.records import CaseRecords, Task
from medgan.workflows.executor.work import ModelAt
from tests.kit.models import make_model


@dataclass(frozen=True)
class Odd:
    """Writes a file for each case. The item of a task says what goes wrong.

    `kills` ends the process each time, `kills once` the first time, `hangs` and `hangs once`
    likewise, `bad` is refused, `full` is a full disk, `slow` takes a while.
    """

    records: CaseRecords

    def __call__(self, model: Model, item: str) -> tuple[dict, list[str]]:
        name, _, what = item.partition(":")
        with (self.records.folder / "log").open("a") as file:
            file.write(f"{name}\n")
        seen = self.records.folder / f"{name}.seen"
        if what == "kills" or (what == "kills once" and not seen.exists()):
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hangs" or (what == "hangs once" and not seen.exists()):
            seen.touch()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a C library that never returns
            time.sleep(1e6)
        if what == "bad":
            raise DataError("E_HEADER", name, "is odd", "mend it")
        if what == "full":
            raise EnvironmentFailure("E_DISK", name, "not written", "free some space")
        if what == "slow":
            time.sleep(0.2)
        (self.records.folder / f"{name}.txt").write_text(name)
        itk = os.environ.get("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
        row = {"case": name, "digest": model.digest[:4], "itk": itk}
        return {"row": row}, [f"{name}.txt"]

    def worked_on(self) -> list[str]:
        """Names of the cases, once for each time that a process began with them."""
        return (self.records.folder / "log").read_text().split()


def tasks(*items: str) -> list[Task]:
    """One a case, in order."""
    return [Task(item.partition(":")[0], "key", item) for item in items]


def model_at(folder: Path) -> ModelAt:
    """A tiny model for workers."""
    make_model().save(folder)
    model = Model.load(folder)
    assert digest_of(model)
    return ModelAt(folder, model.digest)
