"""Random numbers for the volumes of a step, the same however many processes share them."""

import torch
from torch import Tensor


class Randomness:
    """Draws for the volumes of all ranks, and keeps the rows of its own.

    Volume i of a batch belongs to rank i modulo ranks. Every rank draws the same numbers from the
    same generator, so that its state is the same everywhere and a training can go on with another
    number of ranks. What takes a number for every voxel comes from a seed for each volume instead:
    to draw the voxels of all ranks would take longer the more there are.

    Args:
        generator: source of all numbers, on the CPU.
        rank, ranks: of this process.
    """

    def __init__(self, generator: torch.Generator, rank: int = 0, ranks: int = 1) -> None:
        self.generator, self._rank, self._ranks = generator, rank, ranks

    def normal(self, count: int, *size: int) -> Tensor:
        """Standard normal numbers for so many volumes, (count, ...)."""
        return self._own(torch.randn(count * self._ranks, *size, generator=self.generator))

    def uniform(self, count: int, *size: int) -> Tensor:
        """Numbers in [0, 1) for so many volumes, (count, ...)."""
        return self._own(torch.rand(count * self._ranks, *size, generator=self.generator))

    def integers(self, end: int, count: int, *size: int) -> Tensor:
        """Numbers from 0 to before `end` for so many volumes, (count, ...)."""
        size = (count * self._ranks, *size)
        return self._own(torch.randint(0, end, size, generator=self.generator))

    def order(self, count: int) -> Tensor:
        """A permutation of the volumes of all ranks, which have so many each."""
        return torch.randperm(count * self._ranks, generator=self.generator)

    def generators(self, count: int) -> list[torch.Generator]:
        """A generator for each of so many volumes, on the CPU."""
        seeds = self.integers(2**62, count).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def voxels(self, count: int, *size: int) -> Tensor:
        """Standard normal numbers for each voxel of so many volumes, (count, ...)."""
        drawn = [torch.randn(size, generator=one) for one in self.generators(count)]
        return torch.stack(drawn) if drawn else torch.empty(0, *size, device="cpu")

    def _own(self, rows: Tensor) -> Tensor:
        return rows[self._rank :: self._ranks]
