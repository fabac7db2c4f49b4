"""The simulated device refuses what CUDA refuses, and computes what the CPU computes."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.kit.simulated_device import DeviceError


def test_operations_on_two_devices_are_refused(device):
    x = torch.ones(3, 3, device=device)
    for mixed in (
        lambda: x + torch.ones(3),
        lambda: torch.ones(3).add_(x[0]),
        lambda: torch.cat([x, torch.ones(1, 3)]),
        lambda: torch.stack([x[0, 0], torch.ones(())]),
        lambda: x @ torch.eye(3),
        lambda: torch.where(torch.ones(3, dtype=torch.bool), x, x),
        lambda: torch.ones(3)[torch.zeros(1, dtype=torch.int64, device=device)],
        lambda: x.index_select(0, torch.zeros(1, dtype=torch.int64)),
        lambda: torch.nn.functional.linear(x, torch.ones(2, 3)),
    ):
        with pytest.raises(DeviceError):
            mixed()


def test_scalars_and_indices_of_the_cpu_are_taken(device):
    x = torch.ones(3, 3, device=device)
    assert (x * torch.tensor(2.0)).sum().item() == 18
    assert x[torch.tensor([0, 2])].device == device
    x[torch.tensor([0])] = torch.tensor(5.0)
    assert x.tolist() == [[5.0] * 3, [1.0] * 3, [1.0] * 3]


def test_numpy_and_generators_of_the_cpu_are_refused(device):
    with pytest.raises(TypeError):
        torch.ones(3, device=device).numpy()
    with pytest.raises(TypeError):
        np.asarray(torch.ones(3, device=device))
    with pytest.raises(DeviceError):
        torch.randn(3, generator=torch.Generator(), device=device)


def test_gradients_first_and_second_are_those_of_the_cpu(device):
    layer = nn.Conv3d(1, 2, 3, padding=1)
    other = copy.deepcopy(layer).to(device)
    x = torch.randn(2, 1, 4, 4, 4)
    grads = []
    for module, volume in ((layer, x), (other, x.to(device))):
        volume = volume.requires_grad_()
        (gradient,) = torch.autograd.grad(module(volume).square().sum(), volume, create_graph=True)
        gradient.square().sum().backward()
        grads.append(module.weight.grad)
    assert grads[1].device == device
    assert torch.equal(grads[0], grads[1].cpu())
