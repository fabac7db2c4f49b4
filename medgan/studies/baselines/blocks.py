"""What the adversarial baselines are built of, and how every baseline moves."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

WIDTH = 64
"""Channels at half resolution, doubled with every halving, as in the papers."""
SMALLEST = 4
"""Voxels of the shortest edge at which halving ends, as in the papers."""
SLOPE = 0.2


def stages(shape: tuple[int, int, int]) -> int:
    """How often a volume is halved: until its shortest edge has 4 voxels, 4 times at most."""
    count = 0
    while count < 4 and min(shape) // 2 ** (count + 1) >= SMALLEST:
        count += 1
    return count


class Shrinking(nn.Module):
    """Volume to `out` numbers by strided convolutions with kernels of 4.

    Args:
        shape: (X, Y, Z), divisible by 16.
        out: numbers a volume.
        batch_norm: after every convolution but the first and the last.
    """

    def __init__(self, shape: tuple[int, int, int], out: int, batch_norm: bool) -> None:
        super().__init__()
        count = stages(shape)
        layers: list[nn.Module] = []
        channels = 1
        for number in range(count):
            wider = WIDTH * 2**number
            layers.append(nn.Conv3d(channels, wider, 4, stride=2, padding=1))
            if batch_norm and number:
                layers.append(nn.BatchNorm3d(wider))
            layers.append(nn.LeakyReLU(SLOPE))
            channels = wider
        # The papers' last convolution spans the whole coarsest grid: as a matrix it is faster.
        base = math.prod(size // 2**count for size in shape)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * base, out))

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B F"]:
        """Volumes to logits or codes."""
        return self.layers(volume)


class Growing(nn.Module):
    """Code to volume in (-1, 1), batch norm and ReLU after all layers but the last.

    Args:
        shape: (X, Y, Z), divisible by 16.
        latent: length of the code.
        transposed: doubles with transposed convolutions with kernels of 4 (DCGAN); else with
            nearest neighbours and convolutions with kernels of 3.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, transposed: bool) -> None:
        super().__init__()
        count = stages(shape)
        base = tuple(size // 2**count for size in shape)
        channels = WIDTH * 2 ** (count - 1)
        layers: list[nn.Module] = [
            nn.Linear(latent, channels * math.prod(base), bias=False),
            nn.Unflatten(1, (channels, *base)),
            nn.BatchNorm3d(channels),
            nn.ReLU(),
        ]
        for number in reversed(range(count)):
            thinner = WIDTH * 2 ** (number - 1) if number else 1
            if transposed:
                up = nn.ConvTranspose3d(channels, thinner, 4, stride=2, padding=1, bias=not number)
                layers.append(up)
            else:
                layers.append(nn.Upsample(scale_factor=2))
                layers.append(nn.Conv3d(channels, thinner, 3, padding=1, bias=not number))
            if number:
                layers += [nn.BatchNorm3d(thinner), nn.ReLU()]
            channels = thinner
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, code: Float[Tensor, "B L"]) -> Float[Tensor, "B 1 X Y Z"]:
        """Codes to volumes."""
        return self.layers(code)


def normal_start(module: nn.Module) -> None:
    """Weights of DCGAN: normal with 0.02, batch norm about 1; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)


@torch.no_grad()
def sample_generator(
    generator: Growing, latent: int, count: int, random: torch.Generator, batch: int = 16
) -> Float[Tensor, "N 1 X Y Z"]:
    """Volumes from random codes, in fp32, on the CPU.

    Batch norm first takes its statistics from 8 batches of codes of their own, with the weights
    as they are now: the running ones lag behind the weights and, where an encoder's codes went
    through the same layers, belong to those too.

    Args:
        generator: left in evaluation.
        latent: length of the code.
        count: how many volumes.
        random: source of the codes, on the CPU.
        batch: volumes at once.

    Reference: Wu and Johnson 2021, arXiv 2105.07576, section 3 (precise statistics).
    """
    device = next(generator.parameters()).device
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches to come
    own = torch.Generator().manual_seed(0)
    generator.train()
    for _ in range(8):
        generator(torch.randn(batch, latent, generator=own).to(device))
    for norm in norms:
        norm.momentum = 0.1
    generator.eval()
    codes = torch.randn(count, latent, generator=random)
    return torch.cat([generator(part.to(device)).cpu() for part in codes.split(batch)])


def move(
    optimizer: torch.optim.Optimizer, loss: Tensor, longest_gradient: float = math.inf
) -> None:
    """One optimiser step, along a gradient that is shortened where it is longer than allowed.

    Raises:
        FloatingPointError: a loss that is not finite; nothing has moved.
    """
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError
    optimizer.zero_grad()
    loss.backward()
    if longest_gradient < math.inf:
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(moved, longest_gradient)
    optimizer.step()
