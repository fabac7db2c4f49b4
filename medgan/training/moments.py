"""State of Adam optimizers as named tensors, for checkpoints."""

import torch
from torch import Tensor


def moments_to_tensors(optimizer: torch.optim.Optimizer, name: str) -> dict[str, Tensor]:
    """The moments and step counts of an optimizer under flat names that begin with `name`."""
    return {
        f"{name}.{number}.{key}": value
        for number, moments in optimizer.state_dict()["state"].items()
        for key, value in moments.items()
    }


def moments_from_tensors(
    optimizer: torch.optim.Optimizer, name: str, tensors: dict[str, Tensor]
) -> None:
    """Puts back what `moments_to_tensors` gave; other tensors are passed over."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{name}."):
            _, number, moment = key.rsplit(".", 2)
            moments.setdefault(int(number), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
