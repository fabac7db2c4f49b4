"""Label maps as soft channels that a generator can draw, and back."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def soften(
    label_map: Int[Tensor, "*B X Y Z"], values: tuple[int, ...]
) -> Float[Tensor, "*B K X Y Z"]:
    """Label map to soft channels in [-1, 1], one a value, without background.

    One-hot edges are smoothed by [1 2 1] / 4 along each axis, because a generator cannot and
    need not draw perfect steps, and a discriminator would look at nothing else.

    Args:
        label_map: label values, one map or a batch.
        values: the values that get a channel, in order.
    """
    soft = torch.stack([label_map == value for value in values], dim=-4).float()
    for axis in (-3, -2, -1):
        last = soft.shape[axis] - 1
        ends = soft.narrow(axis, 0, 1), soft.narrow(axis, last, 1)
        padded = torch.cat([ends[0], soft, ends[1]], dim=axis)
        below, above = padded.narrow(axis, 0, last + 1), padded.narrow(axis, 2, last + 1)
        soft = (below + 2 * soft + above) / 4
    return 2 * soft - 1


def harden(
    channels: Float[Tensor, "K X Y Z"], values: tuple[int, ...], offset: float = 0.0
) -> Int[Tensor, "X Y Z"]:
    """Soft label channels back to a label map: the strongest of background and all labels.

    Args:
        channels: soft label channels in [-1, 1].
        values: label values in the order of the channels.
        offset: taken from the background's share, from `volume_keeping_offset`.
    """
    share = (channels + 1) / 2
    background = 1 - share.sum(dim=0, keepdim=True) - offset
    winner = torch.cat([background, share]).argmax(dim=0)
    return torch.tensor([0, *values], device=channels.device)[winner]


def volume_keeping_offset(label_maps: Sequence[Tensor], values: tuple[int, ...]) -> float:
    """The offset with which softening and hardening real label maps keeps their volume.

    Smoothing takes from convex shapes what it gives to concave ones, and labelled structures are
    mostly convex: read back with an offset of 0, thin ones shrink.

    Args:
        label_maps: real ones, (X, Y, Z) each, on the model's grid.
        values: label values that are learned.
    """
    soft = [soften(label_map, values) for label_map in label_maps]
    wanted = sum(int(torch.isin(m, torch.tensor(values)).sum()) for m in label_maps)

    def missing(offset: float) -> int:
        return wanted - sum(int((harden(s, values, offset) > 0).sum()) for s in soft)

    if missing(0.0) == 0:
        return 0.0
    low, high = (0.0, 0.5) if missing(0.0) > 0 else (-0.5, 0.0)
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) > 0 else (low, middle)
    return (low + high) / 2
