"""Weights that do not fit networks, named for whoever has to find out why."""

from collections.abc import Mapping

from torch import Tensor

_TOLD = 3
"""Weights that a message names."""


def mismatch(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> str:
    """The first weights of another size, with both sizes, and how many more there are.

    Args:
        here: of the networks.
        there: of a file.

    Returns:
        A text for a message; empty where all fit.

    Example:
        >>> import torch
        >>> mismatch({"a": torch.zeros(2, 3)}, {"a": torch.zeros(2, 4)})
        'a is 2 x 4 there and 2 x 3 here'
    """
    ours, theirs = ({k: tuple(v.shape) for k, v in of.items()} for of in (here, there))
    found = [
        f"{name} is {_size(theirs.get(name))} there and {_size(ours.get(name))} here"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return "; ".join(found[:_TOLD]) + more


def _size(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape)) or "a number"
