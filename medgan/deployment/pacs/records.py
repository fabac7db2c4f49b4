"""What is known of a study, in one file each: the state that a restart goes on from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medgan.core.files import write_atomic
from medgan.core.json_files import read_json

RECORD = "record.json"
RECEIVING, COMPLETE, SCORED = "receiving", "complete", "scored"
WAITING, SENT, REFUSED = "waiting", "sent", "refused"


@dataclass
class Outgoing:
    """An object for the PACS.

    Attributes:
        file: below the folder of the study.
        kind: map, regions, summary or report.
        state: waiting, sent, or refused by the peer.
        tries: how often the peer refused it.
    """

    file: str
    kind: str
    state: str = WAITING
    tries: int = 0


@dataclass
class Scored:
    """The result of a series, under pseudonyms.

    Attributes:
        case: pseudonym of the series.
        slices: how many it had.
        version: of the model.
        comparable: with the calibration scans.
        text: score, p-value and explanation.
    """

    case: str
    slices: int
    version: str
    comparable: bool
    text: str


@dataclass
class Record:
    """A study; no name, UID or date of its header.

    Attributes:
        study: pseudonym, which names its folder.
        subject: pseudonym; empty until it was scored.
        stage: receiving, complete or scored.
        begun, changed: seconds since 1970 of the first arrival and of the last change.
        instances: files received.
        attempts: scorings that were begun and did not end.
        series: results by the key of the series and model that they are of.
        outgoing: objects of these results.
        remarks: what was refused, and why.
        fetched: digest of the list of files when they were fetched last over DICOMweb.
        missing: files of the server that were not here when they were begun to be fetched; 0 when
            all are here. A study that misses files is not complete.
        deleted: whether its files are gone, after the retention time.
    """

    study: str
    subject: str = ""
    stage: str = RECEIVING
    begun: float = 0.0
    changed: float = 0.0
    instances: int = 0
    attempts: int = 0
    series: dict[str, Scored] = field(default_factory=dict)
    outgoing: list[Outgoing] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    fetched: str = ""
    missing: int = 0
    deleted: bool = False

    @property
    def state(self) -> str:
        """In one word, for the page: receiving, complete, scored, sent or refused."""
        if self.stage != SCORED:
            return self.stage
        if self.waiting:
            return SCORED
        return SENT if any(one.state == SENT for one in self.outgoing) else REFUSED

    @property
    def waiting(self) -> bool:
        """Whether an object waits to be sent."""
        return any(one.state == WAITING for one in self.outgoing)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.stage == SCORED and not self.waiting

    def save(self, folder: Path) -> None:
        """Writes the record.

        Raises:
            EnvironmentFailure: E_DISK.
        """
        write_atomic(folder / RECORD, json.dumps(asdict(self), indent=1), private=True)

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """The record of a folder; None where there is none, or one that is damaged."""
        try:
            values: Mapping[str, Any] = read_json(folder / RECORD)
            known = {**values}
            known["series"] = {key: Scored(**one) for key, one in values["series"].items()}
            known["outgoing"] = [Outgoing(**one) for one in values["outgoing"]]
            return cls(**known)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
