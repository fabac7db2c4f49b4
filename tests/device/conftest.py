from collections.abc import Callable, Iterator

import pytest
import torch

from medgan.anomaly.context import ScoringNetworks
from medgan.anomaly.scorers import learn_densities
from medgan.networks.blocks import Stages
from medgan.networks.gan import Networks
from tests.kit.simulated_device import simulated_device
from tests.kit.volumes import SIZE


@pytest.fixture
def device() -> Iterator[torch.device]:
    with simulated_device() as made:
        yield made


@pytest.fixture
def scoring_networks() -> Callable[[torch.device], ScoringNetworks]:
    """Untrained networks on a device, with densities of six random volumes."""

    def build(device: torch.device) -> ScoringNetworks:
        torch.manual_seed(0)
        networks = Networks.build(SIZE, 0, 8, Stages((8, 8), 4, 1))
        networks.requires_grad(False)
        networks.to(device)
        assert networks.discriminator is not None
        made = ScoringNetworks(
            networks.encoder, networks.generator, networks.discriminator.features, {}
        )
        volumes = torch.rand(6, 1, *SIZE) * 2 - 1
        densities = learn_densities(lambda: volumes.to(device).split(4), made)
        return ScoringNetworks(made.encode, made.generate, made.features, densities)

    return build
