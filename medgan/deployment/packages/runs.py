"""What the configurations of a MONAI bundle run: scores, translations or synthetic scans.

They are the workflows behind `medgan score`, `translate` and `generate`, so results are the same.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from medgan.core.config import ScoreConfig, TranslateConfig
from medgan.core.errors import DataError
from medgan.core.files import write_atomic
from medgan.core.table_files import table_text
from medgan.core.version import __version__
from medgan.data.conditions import Value
from medgan.data.dicom.conversion import CONVERTED
from medgan.data.index import index
from medgan.data.manifest import IMAGE, Case, Refusal
from medgan.data.pseudonyms import PRIVATE_KEY, Pseudonyms, write_private_key
from medgan.data.reading import ReadScans
from medgan.model.model import Model
from medgan.workflows.generate import write_synthetic
from medgan.workflows.over_cases import Row
from medgan.workflows.score import score_cases
from medgan.workflows.translate import write_translations

log = logging.getLogger(__name__)


class Scans:
    """The scans of a folder, checked when they are first asked for.

    Args:
        source: folder of NIfTI or DICOM, BIDS tree, Decathlon folder or CSV.
        model: whose channels are read.
        output: receives `private_key.csv`, which leads from pseudonyms to files, and `refused.csv`.
    """

    def __init__(self, source: str, model: Model, output: str) -> None:
        self.source, self.model, self.output = Path(source), model, Path(output)
        self.read = ReadScans()

    def cases(self) -> tuple[Case, ...]:
        """The usable scans.

        Raises:
            DataError: E_NO_SCANS where none is, and what `medgan check` says of a data set.
        """
        channels = self.model.preprocessing.channels
        wanted = self.model.source or (channels if len(channels) > 1 else ())
        manifest, key = index(
            self.source, Pseudonyms.of_site(), converted=self.output / CONVERTED,
            channels=() if wanted == (IMAGE,) else wanted, keep=self.read.keep,
        )  # fmt: skip
        write_private_key(self.output / PRIVATE_KEY, key)
        self.refuse(manifest.refusals)
        if not manifest.cases:
            raise DataError(
                "E_NO_SCANS", "dataset_dir", "no scan in it is usable", "see refused.csv"
            )
        return manifest.cases

    def refuse(self, refusals: Sequence[Refusal]) -> None:
        """Writes down and logs what was left out."""
        for one in refusals:
            log.warning("refused %s %s: %s; %s", one.code, one.case, one.what, one.remedy)
        if refusals:
            rows = [vars(one) for one in refusals]
            columns = ("case", "code", "what", "remedy")
            write_atomic(self.output / "refused.csv", table_text(rows, columns))


class Evaluator(Protocol):
    """What a bundle's `run` calls."""

    def run(self) -> list[Row]:
        """Does the work, and gives a row for each scan."""
        ...


class Scoring:
    """Scores scans as `medgan score` does: scores.json, tables, maps in each scan's own grid.

    Args:
        model: calibrated.
        scans: to score.
        false_alarms: rate at which a scan is called unusual; 0 decides nothing.
    """

    def __init__(self, model: Model, scans: Scans, false_alarms: float = 0.0) -> None:
        self.model, self.scans = model, scans
        self.settings = ScoreConfig(false_alarms=false_alarms)  # pyright: ignore[reportCallIssue]

    def run(self) -> list[Row]:
        """The rows of scores.json, highest score first."""
        rows, refusals = score_cases(
            self.model, self.scans.cases(), self.scans.output, self.settings,
            read=self.scans.read.read,
        )  # fmt: skip
        self.scans.refuse(refusals)
        return rows


class Translating:
    """Makes another image of scans as `medgan translate` does.

    Args:
        model: of the task.
        scans: to translate.
        answers: with noise, for the spread.
        seed: of the answers.
    """

    def __init__(self, model: Model, scans: Scans, answers: int = 8, seed: int = 0) -> None:
        self.model, self.scans = model, scans
        self.settings = TranslateConfig(answers=answers, seed=seed)  # pyright: ignore[reportCallIssue]

    def run(self) -> list[Row]:
        """The rows of translations.csv."""
        rows, refusals = write_translations(
            self.model, self.scans.cases(), self.scans.output, self.settings,
            {"medgan": __version__}, read=self.scans.read.read,
        )  # fmt: skip
        self.scans.refuse(refusals)
        return rows


class Drawing:
    """Draws synthetic scans as `medgan generate` does.

    Args:
        model: with a generator.
        output: receives a Decathlon data set.
        count: of scans.
        seed: of the latents.
        conditions: such as `{"age": 70}`; those not given are drawn as training scans have them.
    """

    def __init__(
        self,
        model: Model,
        output: str,
        count: int = 8,
        seed: int = 0,
        conditions: Mapping[str, Value] | None = None,
    ) -> None:
        self.model, self.output = model, Path(output)
        self.count, self.seed, self.conditions = count, seed, dict(conditions or {})

    def run(self) -> list[Row]:
        """A row with the number of each scan."""
        write_synthetic(
            self.model, self.output, self.count, self.seed, {"medgan": __version__},
            [self.conditions] * self.count,
        )  # fmt: skip
        return [{"number": number} for number in range(self.count)]
