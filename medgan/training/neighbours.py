"""Neighbours in a sequence: two volumes of one subject, and where in time each of them is.

A discriminator that sees both judges what no single volume shows: that it is the same subject, in
which order the two come, and how much may have changed between them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from medgan.core.config import Preprocessing
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.conditions import covariate_of, is_known, number_of, widths
from medgan.data.manifest import Case

Codes = TypeVar("Codes", np.ndarray, Tensor)
REACH = 3
"""Steps to the farthest neighbour; which one a pair shows is drawn at random."""
CODE = 2
"""Columns of a time in an encoded condition."""


@dataclass(frozen=True)
class Neighbours:
    """Which scans are neighbours in time.

    Attributes:
        along: the condition that is their time.
        column: the first of its two in an encoded condition.
        periodic: whether the first scan of a sequence follows the last.
        following: of each training scan by its number, those that follow, nearest first.
    """

    along: str
    column: int
    periodic: bool
    following: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, preprocessing: Preprocessing, along: str) -> "Neighbours":
        """The neighbours along a condition, before the training scans are known."""
        conditions = preprocessing.conditions
        number = [condition.name for condition in conditions].index(along)
        return cls(along, sum(widths(conditions)[:number]), conditions[number].kind == "periodic")

    def among(self, cases: Sequence[Case]) -> "Neighbours":
        """The same with the scans that follow each: of its sequence, or of its subject."""
        sequences: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for number, case in enumerate(cases):
            if is_known(value := covariate_of(case, self.along)):
                time = number_of(self.along, value)
                sequences[case.sequence or case.subject].append((time, number))
        following: list[tuple[int, ...]] = [() for _ in cases]
        for timed in sequences.values():
            order = [number for _, number in sorted(timed)]
            for place, number in enumerate(order):
                later = order[place + 1 :] + (order[:place] if self.periodic else [])
                following[number] = tuple(later[:REACH])
        return replace(self, following=tuple(following))

    def arrays(
        self, volumes: PreparedVolumes, number: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`next`, a scan that follows this one, `next_code`, its time, and whether there is one."""
        later = self.following[number]
        chosen = int(rng.choice(later)) if later else number
        return {
            "next": volumes.arrays(chosen)[0],
            "next_code": self._code(volumes.condition(chosen)),
            "paired": np.array(bool(later)),
        }

    def example(self, batch: Batch) -> Batch:
        """A batch with random neighbours; every scan has one."""
        count, device = len(batch), batch.volume.device
        return batch.having(
            next=torch.rand_like(batch.volume) * 2 - 1,
            next_code=torch.ones(count, CODE, device=device),
            paired=torch.ones(count, dtype=torch.bool, device=device),
        )

    def timed(self, batch: Batch) -> Batch:
        """The batch with the conditions of neighbours, for a generator and for a discriminator.

        A scan whose time was made unknown has none.
        """
        condition, code = batch.condition, batch["next_code"]
        later = condition.clone()
        self._code(later)[:] = code
        return batch.having(
            next_condition=later, pair_condition=torch.cat([condition, code], dim=1),
            paired=batch["paired"] & self._code(condition).any(dim=1),
        )  # fmt: skip

    def _code(self, condition: Codes) -> Codes:
        return condition[..., self.column : self.column + CODE]
