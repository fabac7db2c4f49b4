import pytest
import torch

from medgan.app.bench import MEDGAN, _bench, _FlopCounter, table
from medgan.core.convolution import Conv3d
from tests.kit.data_sets import TINY


@pytest.mark.parametrize("generator", [MEDGAN, "vae"])
def test_a_row_says_what_a_step_takes(generator):
    row = _bench("tiny", TINY, generator, steps=2)
    assert (row["preset"], row["generator"], row["shape"]) == ("tiny", generator, "16x16x16")
    assert row["volumes_per_second"] > 0
    assert row["gflops"] > 0
    assert 0 < row["share_of_peak"]
    assert row["peak_mib"] >= 0
    assert 0 <= row["waiting"] < 1
    assert list(row) == table([row]).splitlines()[0].strip("| ").split(" | ")


def test_a_generator_that_bends_a_template_is_timed_too():
    row = _bench("tiny", TINY, MEDGAN, steps=2)
    bent = {**TINY, "model": {**TINY["model"], "from_template": True}}
    bent["data"] = {**TINY["data"], "align": "deformable"}
    assert _bench("tiny", bent, MEDGAN, steps=2)["parameters_millions"] > row["parameters_millions"]


def test_operations_of_a_convolution_and_its_gradients_are_counted_exactly():
    layer = torch.nn.Conv3d(3, 5, 3, padding=1, bias=False)
    x = torch.randn(2, 3, 4, 6, 8, requires_grad=True)
    with _FlopCounter() as counter:
        layer(x).sum().backward()
    assert counter.total == 3 * 2 * 27 * 3 * 5 * 2 * 4 * 6 * 8


@torch.inference_mode()
def test_operations_of_a_single_volume_are_counted_too():
    layer = Conv3d(3, 5, 3, padding=1)
    with _FlopCounter() as counter:
        layer(torch.zeros(1, 3, 4, 6, 8))
    assert counter.total == 2 * 27 * 3 * 5 * 4 * 6 * 8
