from collections.abc import Iterator

import pytest
import torch

from tests.kit.simulated_device import simulated_device


@pytest.fixture
def device() -> Iterator[torch.device]:
    with simulated_device() as made:
        yield made
