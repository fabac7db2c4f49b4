import json
import re
import sys

import numpy as np
import pytest
import torch

from medgan.core.config import Condition
from medgan.core.errors import EnvironmentFailure, ModelError
from medgan.deployment.packages import onnx_files
from medgan.deployment.packages.networks import Network, Port, networks_of
from medgan.deployment.packages.onnx import write_onnx
from medgan.deployment.packages.onnx_files import write_network
from medgan.deployment.packages.sealing import SUMS
from medgan.model.fresh_networks import stages
from medgan.networks.restorer import Restorer
from tests.kit.captions import captioned_grid
from tests.kit.models import TWO_LABELS, make_model


def doubling(factor=2.0):
    """A network of one line."""

    class Doubling(torch.nn.Module):
        def forward(self, x):
            return factor * x

    port = Port((3,), None, "numbers")
    return Network("doubling", Doubling(), {"x": port}, {"y": port})


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EnvironmentFailure, match=r"E_EXTRA.*medgan\[export\]"):
        onnx_files.check_extra()


@pytest.mark.parametrize("wrong", [1.0, np.nan])
def test_a_file_that_computes_something_else_is_refused_and_removed(wrong, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_files, "_onnx_bytes", lambda network, module: b"")
    outputs = [[np.full((count, 3), wrong)] for count in (2, 1, 2, 1, 1)]
    monkeypatch.setattr(onnx_files, "_by_onnxruntime", lambda network, path: outputs)
    with pytest.raises(ModelError, match="E_PACKAGE doubling: as onnx it differs"):
        write_network(doubling(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_where_onnx_fails_there_is_a_program_of_torch_export_that_says_so(monkeypatch, tmp_path):
    def fail(network, module):
        raise torch.onnx.OnnxExporterError("no")

    monkeypatch.setattr(onnx_files, "_onnx_bytes", fail)
    done = write_network(doubling(), tmp_path)
    assert (done.file, done.format) == ("doubling.pt2", "torch.export")
    assert done.reason == "torch.onnx.export raised OnnxExporterError"
    program = torch.export.load(tmp_path / done.file).module()
    torch.testing.assert_close(program(torch.ones(7, 3)), 2 * torch.ones(7, 3))


def test_inputs_that_are_compared_lie_in_their_ranges():
    network = next(one for one in networks_of(make_model()) if one.name == "encoder")
    (volume,) = network.examples()
    assert volume.shape == (2, 1, 16, 16, 16)
    assert volume.abs().max() == 1


@pytest.mark.slow
def test_all_networks_of_a_model_agree_under_onnxruntime_and_the_readme_runs(
    packaged, tmp_path, says_nothing_of_this_machine, monkeypatch
):
    check = write_onnx(packaged, tmp_path / "a")
    assert {one["format"] for one in check.values()} == {"onnx"}
    assert check.keys() == {"generator", "encoder"}
    assert all(one["difference"] < 1e-4 < one["largest"] for one in check.values())
    assert check == json.loads((tmp_path / "a" / "check.json").read_text())
    age, sex = json.loads((tmp_path / "a" / "conditions.json").read_text())
    assert (age["columns"], age["mean"], sex["categories"]) == ([0, 2], 50, ["F", "M"])
    says_nothing_of_this_machine(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "a/README.md").read_text(), re.DOTALL)
    values = {}
    exec(compile(code, "README.md", "exec"), values)
    assert values["volume"].shape == (1, 2, 16, 16, 16)
    write_onnx(packaged, tmp_path / "b")
    assert (tmp_path / "a" / SUMS).read_text() == (tmp_path / "b" / SUMS).read_text()


@pytest.mark.slow
def test_a_condition_reaches_the_exported_generator(packaged, tmp_path):
    import onnxruntime

    network = next(networks_of(packaged.model))
    path = tmp_path / write_network(network, tmp_path).file
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    latent = np.zeros((1, 8), np.float32)
    young, old = (
        session.run(None, {"latent": latent, "condition": np.float32([[age, 1, 0, 0]])})[0]
        for age in (-1, 1)
    )
    assert np.abs(young - old).max() > 1e-4


@pytest.mark.slow
def test_restorers_and_generators_with_noise_agree_too(tmp_path):
    noise = Condition(
        name="noise", kind="continuous", mean=0.1, spread=0.05,
        quantiles=tuple(np.linspace(0, 0.2, 21)),
    )  # fmt: skip
    grid = TWO_LABELS.model_copy(update={"conditions": (noise,)})
    model = make_model(grid)
    model.networks.restorer = Restorer(("density",), 1, 2, stages(grid, model.sizes))
    networks = {network.name: network for network in networks_of(model)}
    assert list(networks["generator"].inputs) == ["latent", "condition", "noise"]
    done = {name: write_network(network, tmp_path) for name, network in networks.items()}
    assert done.keys() == {"generator", "encoder", "restorer"}
    assert {one.format for one in done.values()} == {"onnx"}
    assert all(one.difference < 1e-4 for one in done.values())


@pytest.mark.slow
def test_a_generator_of_sentences_takes_their_words_along(tmp_path):
    network = next(networks_of(make_model(captioned_grid())))
    done = write_network(network, tmp_path)
    assert (done.format, done.difference < 1e-4) == ("onnx", True)
