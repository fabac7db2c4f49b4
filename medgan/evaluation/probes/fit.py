"""The training loop of the small networks that evaluate scans."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medgan.core.seeding import seeded

PEAK_RATE = 2e-3


def fit(
    build: Callable[[], nn.Module],
    draw: Callable[[], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    seed: int,
    device: torch.device,
    weight_decay: float = 1e-2,
    bf16: bool = True,
) -> nn.Module:
    """A network trained by AdamW; the learning rate rises and falls once.

    The length is a number of steps, not of epochs: small and large sets are trained equally long.

    Args:
        build: makes the network on the device; its weights come from torch's global generator.
        draw: gives the inputs and the targets of a step.
        loss: of the outputs, in fp32, and the targets.
        steps: of AdamW.
        seed: of the weights and of dropout.
        device: of network and batches.
        weight_decay: of AdamW.
        bf16: autocast of the network.

    Returns:
        The network, in evaluation.
    """
    with seeded(seed, device):
        network = build().train()
        optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=weight_decay)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, steps)
        for _ in range(steps):
            inputs, targets = draw()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                outputs = network(inputs)
            value = loss(outputs.float(), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            rates.step()
    return network.eval()
