"""The record of promotions of a registered model: who, when, why, and on which figures.

Records are tags of the registered model, so they are where the model is, and whoever may not change
the model cannot add one. Each holds the hash of the one before it: a record that was changed or
taken out is noticed. Who may write to the store could rewrite all of them; the last hash, kept
elsewhere, shows that.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from medgan.core.errors import DataError
from medgan.core.json_files import parse_json

CHAMPION = "champion"
"""The alias that only a promotion sets."""
_TAG = "medgan.promotion."
_MOST = 5000
"""Characters of a tag that every store of MLflow's takes."""
Action = Literal["promoted", "refused", "rolled back"]


@dataclass(frozen=True)
class Promotion:
    """One record.

    Attributes:
        number: from 1.
        previous: digest of the record before; empty for the first.
        time: UTC, ISO 8601.
        action: what was done.
        alias: that was asked for.
        version: that asked for it; of a roll back, the one that has it again.
        content: SHA-256 of that version's `config.json`, which vouches for its other files.
        replaced: version that had the alias until then; empty for none.
        who: decided.
        why: in words.
        data: digest of the manifest that was measured on; empty for a roll back.
        figures: measured then, of the version.
        champion: the same of the champion, where it was compared with one.
        failed: lines of the gate that were not passed.
    """

    number: int
    previous: str
    time: str
    action: Action
    alias: str
    version: str
    content: str
    replaced: str
    who: str
    why: str = ""
    data: str = ""
    figures: Mapping[str, float | str] = field(default_factory=dict)
    champion: Mapping[str, float | str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """JSON, the same for the same record."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def rivals(self, other: "Promotion") -> bool:
        """Whether another decision on the same alias was made from the same state."""
        return other.number == self.number and other.digest != self.digest

    @property
    def tag(self) -> tuple[str, str]:
        """Key and value in the store.

        Raises:
            DataError: E_VALUE for a record that is too long.
        """
        if len(self.text) > _MOST:
            raise DataError(
                "E_VALUE", "the record", f"has {len(self.text)} characters of at most {_MOST}",
                "say why in fewer words",
            )  # fmt: skip
        return f"{_TAG}{self.number:04d}.{self.digest[:12]}", self.text


@dataclass(frozen=True)
class History:
    """All records of a registered model.

    Attributes:
        records: in order.
        faults: what does not fit together, in words; empty for an unbroken chain.
    """

    records: tuple[Promotion, ...] = ()
    faults: tuple[str, ...] = ()

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> "History":
        """The history in the tags of a registered model; other tags are passed over."""
        found, faults = [], []
        for key, text in tags.items():
            if not key.startswith(_TAG):
                continue
            try:
                values = parse_json(text)
                record = Promotion(**{**values, "failed": tuple(values["failed"])})
                if record.tag != (key, text):
                    raise ValueError
                found.append(record)
            except (ValueError, TypeError, KeyError, DataError):
                faults.append(f"record {key.removeprefix(_TAG)} was changed")
        found.sort(key=lambda record: (record.number, record.time))
        return cls(tuple(found), (*faults, *_gaps(found)))

    def next(
        self,
        action: Action,
        alias: str,
        version: str,
        content: str,
        replaced: str,
        who: str,
        why: str = "",
        data: str = "",
        figures: Mapping[str, float | str] | None = None,
        champion: Mapping[str, float | str] | None = None,
        failed: Iterable[str] = (),
    ) -> Promotion:
        """A record to follow the last one, dated now; arguments as its attributes."""
        last = self.records[-1] if self.records else None
        time = datetime.now(UTC).isoformat(timespec="seconds")
        return Promotion(
            1 if last is None else last.number + 1, "" if last is None else last.digest, time,
            action, alias, version, content, replaced, who, why, data, dict(figures or {}),
            dict(champion or {}), tuple(failed),
        )  # fmt: skip

    def decisions(self, alias: str) -> list[Promotion]:
        """The records after which an alias moved, in order."""
        return [one for one in self.records if one.alias == alias and one.action != "refused"]

    def holders(self, alias: str) -> list[Promotion]:
        """The promotions that stand behind an alias, the present one last; none rolled back."""
        standing: list[Promotion] = []
        for record in self.decisions(alias):
            if record.action == "promoted":
                standing.append(record)
                continue
            while standing and standing[-1].version != record.version:
                standing.pop()  # once, where two rolled back at the same time
        return standing

    def vouches_for(self, alias: str, version: str, content: str) -> bool:
        """Whether a version has an alias by a promotion, with the files that it had then.

        A promotion is recorded first, and then the alias moves: the champion before counts as
        well while the last record is a promotion.
        """
        standing = self.holders(alias)
        last = [record for record in self.records if record.alias == alias][-1:]
        moving = bool(last) and last[0].action == "promoted"
        return any(
            record.version == version and record.content == content
            for record in standing[-2 if moving else -1 :]
        )


def _gaps(records: Iterable[Promotion]) -> list[str]:
    """Records that follow none: those before them were changed or taken out."""
    known = {0: {""}}
    faults = []
    for record in records:
        if record.previous not in known.get(record.number - 1, ()):
            faults.append(f"record {record.number} does not follow the one before it")
        known.setdefault(record.number, set()).add(record.digest)
    return faults
