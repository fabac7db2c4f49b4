"""One line of the doctor's answer."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What was checked, and its condition.

    Attributes:
        name: of what was checked.
        level: ok; warning, where something will not work or is unwise; failure, where medgan
            cannot work.
        what: how it is; no paths, no names of hosts or users, no secrets.
        remedy: what to do, in the imperative; empty where all is well.
    """

    name: str
    level: Level
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:8} {self.name:20} {self.what}"
        return f"{line}\n{'':30}-> {self.remedy}" if self.remedy else line
