"""Processes that train one model together, started by torchrun: what they add up and agree on.

Each rank computes gradients of its share of every batch. They are added up once, before the
optimizer moves: penalties with a second derivative, several backward passes and parts of the
networks that take no part are then nobody's concern. Numbers that all must know go as JSON between
the CPUs, over a group of its own that may be waited for as long as rank 0 prepares or evaluates.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medgan.core.errors import ConfigError, EnvironmentFailure, Exit, Interrupted
from medgan.core.randomness import Randomness

log = logging.getLogger(__name__)
_ALIKE = 1e-6
"""Relative difference of the sum of all weights up to which ranks have the same."""


class Left(Exception):
    """Rank 0 ended, with this status; it has said why.

    Args:
        status: of the process.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Ranks:
    """One of several processes that train together, or the only one.

    Attributes:
        rank: its number; 0 leads: it logs, writes, evaluates.
        size: how many there are.
        local: how many of them on this machine.

    Args:
        rank, size, local: as above.
        talk: process group of messages; None for the only one.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local: int = 1,
        talk: Any = None,  # noqa: ANN401
    ) -> None:
        self.rank, self.size, self.local, self._talk = rank, size, local, talk
        self._meeting = True

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def randomness(self, generator: torch.Generator) -> Randomness:
        """Numbers for the volumes of this rank, from a generator that is the same on all."""
        return Randomness(generator, self.rank, self.size)

    def share_of(self, batch: int) -> int:
        """Volumes of a batch that this rank takes.

        Raises:
            ConfigError: E_RANKS when they cannot be shared equally.
        """
        if batch % self.size:
            larger = (batch // self.size + 1) * self.size
            raise ConfigError(
                "E_RANKS", "train.batch", f"{batch} cannot be shared by {self.size} processes",
                f"set train.batch={larger}, or start as many processes as divide {batch}",
            )  # fmt: skip
        return batch // self.size

    def total(self, number: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, without a gradient."""
        number = number.detach()
        if self.size == 1:
            return number
        number = number.clone()
        with others_needed():
            dist.all_reduce(number)
        return number

    def summed(self, number: Tensor, share: float) -> Tensor:
        """The sum over all ranks, whose gradient is that of this rank's part over its share.

        The sum of `share * f(summed(x, share))` over the ranks then is f of the sum, and so is its
        gradient. All ranks must call it.
        """
        if self.size == 1:
            return number
        own = number / share
        return own + (self.total(number) - own).detach()

    def weighted(self, share: Tensor | float, weight: Tensor) -> Tensor | float:
        """The share of a part in a mean that goes by weights, such as the voxels that count.

        A part's own mean times this, summed over the ranks, is the mean over what all of them
        have of it. All ranks must call it.

        Args:
            share: of this rank's volumes in the batch.
            weight: of its part, a sum.
        """
        if self.size == 1:
            return share
        own = torch.as_tensor(share, dtype=torch.float64, device=weight.device)
        both = torch.stack([own, weight.detach().double()])
        all_shares, all_weights = self.total(both)
        return (all_shares * both[1] / all_weights.clamp(min=1e-12)).float()

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, in the order of the whole batch; no gradient."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format)
                 for _ in range(self.size)]  # fmt: skip
        with others_needed():
            dist.all_gather(parts, rows.detach().contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def own(self, rows: Tensor) -> Tensor:
        """Of rows of the whole batch, those of this rank."""
        return rows[self.rank :: self.size]

    def taken(self, volumes: Tensor, order: Tensor) -> Tensor:
        """The volumes of all ranks in another order, of which each gets its share.

        Args:
            volumes: of this rank.
            order: a permutation of those of all, on the CPU.
        """
        if self.size == 1:
            return volumes[order]
        wanted = [order[rank :: self.size] for rank in range(self.size)]
        sent = [one[one % self.size == self.rank] // self.size for one in wanted]
        source = wanted[self.rank] % self.size
        places = [(source == rank).nonzero()[:, 0] for rank in range(self.size)]
        outgoing = volumes.detach()[torch.cat(sent)].contiguous()
        incoming = torch.empty_like(outgoing)
        with others_needed():
            dist.all_to_all_single(incoming, outgoing, [*map(len, places)], [*map(len, sent)])
        found = torch.empty_like(incoming)
        found[torch.cat(places)] = incoming
        return found

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Adds up the gradients of all ranks; what has none on any of them keeps none.

        Returns:
            Whether all are finite, which all ranks then know.
        """
        parameters = list(parameters)
        if self.size == 1:
            return True
        there = [one.grad is not None for one in parameters]
        used = torch.tensor(there, dtype=torch.uint8, device="cpu")
        with others_needed():
            dist.all_reduce(used, dist.ReduceOp.MAX, group=self._talk)
        moved = [one for one, has in zip(parameters, used.tolist(), strict=True) if has]
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in moved]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with others_needed():
            dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for one, gradient, part in zip(moved, gradients, parts, strict=True):
            one.grad = gradient.copy_(part.view(gradient.shape))
        return bool(torch.isfinite(flat).all())

    def exchange(self, message: Any) -> list[Any]:  # noqa: ANN401 - any JSON
        """What every rank says at this point, in their order, for all to hear.

        Raises:
            Left: rank 0 has ended.
            Interrupted, EnvironmentFailure: another rank has.
        """
        if self.size == 1:
            return [message]
        found = self._heard({"said": message})
        left = [(rank, one["left"]) for rank, one in enumerate(found) if "left" in one]
        if left:
            self._meeting = False
            rank, status = left[0]
            if rank == 0:
                raise Left(status)
            if status == Exit.RESUMABLE:
                raise Interrupted(
                    "E_STOPPED", f"rank {rank}", "asked to stop", "run the same command again"
                )
            raise _lost(f"rank {rank}")
        return [one["said"] for one in found]

    def by_leader(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON
        """What rank 0 finds; the others wait for it."""
        return self.exchange(work() if self.leads else None)[0]

    def after_leader(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it is
        """Work that all do, rank 0 first: the others find its files."""
        if self.leads:
            done = work()
            self.exchange(True)
            return done
        self.exchange(True)
        return work()

    def require_alike(self, measure: Callable[[], float]) -> None:
        """Compares what must be the same on all ranks.

        Raises:
            EnvironmentFailure: E_RANKS.
        """
        if self.size == 1:
            return
        found = self.exchange(measure())
        if max(found) - min(found) > _ALIKE * max(map(abs, found)):
            raise EnvironmentFailure(
                "E_RANKS", f"rank {self.rank}", "the processes have different weights",
                "use one version of medgan and one kind of device for all; the same command goes "
                "on from the last checkpoint",
            )  # fmt: skip

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Inside, ranks wait for gradients: one that fails here cannot tell the others.

        They notice that its connections are closed, or are ended by torchrun.
        """
        self._meeting = False
        try:
            yield
        except FloatingPointError:  # on all ranks at the same point
            self._meeting = True
            raise
        self._meeting = True

    def leave(self, status: int) -> None:
        """Tells the others, who wait for a message or end themselves, that this rank ends."""
        if self.size > 1 and self._meeting:
            self._meeting = False
            with suppress(EnvironmentFailure):
                self._heard({"left": status})

    def _heard(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """A message of every rank."""
        data = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64, device="cpu") for _ in range(self.size)]
        with others_needed():
            own = torch.tensor([len(data)], device="cpu")
            dist.all_gather(sizes, own, group=self._talk)
            longest = max(int(size) for size in sizes)
            padded = torch.zeros(longest, dtype=torch.uint8, device="cpu")
            padded[: len(data)] = data
            texts = [torch.zeros_like(padded) for _ in sizes]
            dist.all_gather(texts, padded, group=self._talk)
        cut = (text[: int(size)] for text, size in zip(texts, sizes, strict=True))
        return [json.loads(text.numpy().tobytes()) for text in cut]


@contextmanager
def others_needed() -> Iterator[None]:
    """Inside, another process may be missing."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        log.debug("another process is missing", exc_info=True)
        raise _lost("torchrun") from None


def _lost(where: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        "E_RANK_LOST", where, "another process of this training has ended",
        "see what it said; the same command goes on from the last checkpoint",
    )  # fmt: skip
