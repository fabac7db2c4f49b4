import re
from collections.abc import Callable, Iterator

import pytest
import torch

from medgan.anomaly.context import ScoringNetworks
from medgan.anomaly.scorers import learn_densities
from medgan.core.determinism import deterministic
from medgan.networks.blocks import Stages
from medgan.networks.gan import Networks
from tests.kit.simulated_device import simulated_device, used
from tests.kit.volumes import SIZE


@pytest.fixture
def device() -> Iterator[torch.device]:
    with simulated_device() as made:
        yield made


ORDERLESS = re.compile(
    r"(adaptive_avg_pool[23]d|avg_pool3d|adaptive_max_pool2d|fractional_max_pool[23]d|max_unpool.*"
    r"|max_pool3d_with_indices|upsample_(linear1d|bilinear2d|bicubic2d|trilinear3d).*"
    r"|(reflection|replication)_pad\dd|grid_sampler_[23]d|nll_loss.*|ctc_loss|embedding_bag.*)_backward"
    r"|max_unpool[23]d|nll_loss.*|put_?|histc|bincount|kthvalue|median|nanmedian|cumsum|cumprod"
    r"|scatter_reduce.*"
)
"""Operations that PyTorch refuses on CUDA tensors where the same bits are asked for each time, by
the documentation of `torch.use_deterministic_algorithms` and the alerts in its source."""


@pytest.fixture
def in_one_order(device: torch.device) -> Iterator[Callable[[], int]]:
    """As with `train.deterministic`; the test fails if it uses what a GPU would refuse then.

    Gives the number of operations on the device so far.
    """
    used.clear()
    with deterministic(True):
        yield lambda: len(used)
    assert not sorted(filter(ORDERLESS.fullmatch, used))


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
