import io
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import medgan
from medgan.data.brain.network import LinkNet, brain_network

SCRIPT = Path(medgan.__file__).parents[1] / "docs" / "scripts" / "convert_deepbet.py"


def archive_of(arrays):
    """A model's archive, as TorchScript lays it out."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("net/data.pkl", b"never read")
        for number, array in enumerate(arrays):
            archive.writestr(f"net/data/{number}", array.tobytes())
    return zipfile.ZipFile(raw)


@pytest.fixture
def arrays(rng):
    shapes = [tensor.shape for tensor in LinkNet().state_dict().values()]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_both_networks_are_trained_and_differ():
    first, second = (brain_network(name).state_dict() for name in ("locate", "segment"))
    assert sum(tensor.numel() for tensor in first.values()) > 2_000_000
    for name, tensor in first.items():
        assert tensor.isfinite().all()
        assert tensor.std() > 0
        assert not torch.equal(tensor, second[name])


def test_a_probability_for_every_voxel(generator):
    seen = torch.randn(1, 1, 64, 32, 96, generator=generator)
    with torch.inference_mode():
        probability = brain_network("locate")(seen)
    assert probability.shape == (1, 64, 32, 96)
    assert 0 <= probability.min() < probability.max() <= 1


def test_the_converter_reads_tensors_in_their_order(arrays):
    found = runpy.run_path(str(SCRIPT))["tensors"](archive_of(arrays))
    LinkNet().load_state_dict(found)
    for tensor, array in zip(found.values(), arrays, strict=True):
        assert (tensor.numpy() == array).all()


def test_the_converter_refuses_another_network(arrays):
    with pytest.raises(SystemExit, match="more tensors"):
        runpy.run_path(str(SCRIPT))["tensors"](archive_of([*arrays, arrays[0]]))


def test_the_probability_is_that_of_the_second_of_two_classes(generator):
    network = LinkNet().eval()
    last = []
    network.head[-2].register_forward_hook(lambda layer, inputs, output: last.append(output))
    with torch.inference_mode():
        found = network(torch.rand(2, 1, 32, 64, 32, generator=generator))
        expected = network.head[-1](last[0]).softmax(1)[:, 1]
    assert found.shape == (2, 32, 64, 32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
