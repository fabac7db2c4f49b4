"""What processes that torchrun starts do together in a pipeline: its trainings.

The first process runs the pipeline. Before a step in which the others take part, it tells them
which one it is, and with which settings; they do that step with it, and wait for the next.
"""

from medgan.app.run import Run
from medgan.app.steps import STEPS
from medgan.core.config import Config
from medgan.core.ranks import Left

SHARED = {"train", "scorers"}
"""Steps in which all processes take part."""


def call_others(run: Run, step: str) -> None:
    """Tells the other processes that a step begins."""
    run.ranks.exchange({"step": step, "config": run.config.model_dump(mode="json")})


def train_along(run: Run) -> None:
    """Does the shared steps with the first process, until it ends; its status is that of the run.

    Raises:
        MedganError: whatever a step cannot do.
    """
    while True:
        try:
            said = run.ranks.exchange(None)[0]
            run.config = Config.model_validate(said["config"])
            STEPS[said["step"]].work(run)
        except Left as left:
            run.ended = left.status
            return
