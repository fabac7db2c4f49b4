"""Shares of a data set that are worked on apart, each in a folder of its own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medgan.core.files import write_atomic
from medgan.workflows.executor.records import WORK

SHARDS = "shards"
DONE = f"{WORK}/shard.json"
"""Says that a shard is done, and what it has listed."""
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """A share: every `of`-th, from the `number`-th on.

    Attributes:
        number: from 1.
        of: how many there are.

    Example:
        >>> Shard.read("2/3").of_all("abcdefgh")
        ['b', 'e', 'h']
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> "Shard | None":
        """The shard of a setting such as `3/10`; None of an empty one."""
        number, _, of = text.partition("/")
        return cls(int(number), int(of)) if text else None

    def of_all(self, everything: Sequence[T]) -> list[T]:
        """Its share, in order."""
        return list(everything[self.number - 1 :: self.of])

    def folder(self, out: Path) -> Path:
        """Where it is worked on, within the folder of the whole."""
        return out / SHARDS / f"{self.number}-of-{self.of}"


def write_whole(folder: Path, step: str, whole: dict[str, Any], names: Sequence[str] = ()) -> None:
    """Writes down what all cases of a step have in common.

    Args:
        folder: of the results.
        step: its name.
        whole: what its tables and JSON say of all cases.
        names: of all cases in order, those of other shards included, where they are known.
    """
    text = json.dumps({"step": step, "whole": whole, "names": list(names)})
    write_atomic(folder / WORK / "whole.json", text)


def end_shard(folder: Path, listing: Sequence[str]) -> None:
    """Notes that a shard is done.

    Args:
        folder: of the shard.
        listing: pseudonyms of all scans of the data set, those of other shards included.
    """
    write_atomic(folder / DONE, json.dumps({"listing": list(listing)}))
