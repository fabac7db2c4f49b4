"""A network as an ONNX file, checked against the original by onnxruntime."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.core.errors import EnvironmentFailure, ModelError
from medgan.core.files import write_atomic
from medgan.core.version import __version__
from medgan.deployment.packages.networks import BATCH, Network
from medgan.deployment.packages.sealing import USE

if TYPE_CHECKING:
    from onnx import ModelProto

log = logging.getLogger(__name__)
TOLERANCE = 1e-3
"""Largest difference from the original that is exported."""
SEEDS = (1, 2)
"""Of the random inputs that both are compared on."""
_OPSET = 20
"""The first with GridSample of volumes, which aligned models need."""


@dataclass(frozen=True)
class Exported:
    """A network that was written.

    Attributes:
        file: its name.
        format: `onnx`, or `torch.export` where that failed.
        difference: largest absolute difference of an output from the original's.
        largest: largest absolute output of the original, which says how much that is.
        batches: batch sizes that were compared.
        reason: why it is no ONNX file.
    """

    file: str
    format: str
    difference: float
    largest: float
    batches: tuple[int, ...]
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `check.json`."""
        return asdict(self) | {"batches": list(self.batches), "tolerance": TOLERANCE}


def check_extra() -> None:
    """Whether onnx, onnxruntime and onnxscript, optional dependencies, are there.

    Raises:
        EnvironmentFailure: E_EXTRA.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise EnvironmentFailure(
            "E_EXTRA", "onnx", "not installed, and ONNX files need it",
            "run pip install 'medgan[export]'",
        ) from None  # fmt: skip


def write_network(network: Network, folder: Path) -> Exported:
    """Writes `<name>.onnx`, or `<name>.pt2` where torch cannot make one, and compares it.

    Args:
        network: to export.
        folder: receives the file.

    Raises:
        ModelError: E_PACKAGE when what was written computes something else.
    """
    module = network.module.eval()
    path, reason, kind = folder / f"{network.name}.onnx", "", "onnx"
    try:
        write_atomic(path, _onnx_bytes(network, module))
        outputs = _by_onnxruntime(network, path)
    except Exception as error:  # torch's exporter raises whatever its parts raise
        log.debug("no ONNX of %s", network.name, exc_info=True)
        path.unlink(missing_ok=True)
        path, kind = folder / f"{network.name}.pt2", "torch.export"
        reason = f"torch.onnx.export raised {type(error).__name__}"
        log.warning("%s: no ONNX file (%s); %s in its place", network.name, reason, path.name)
        outputs = _by_torch(network, module, path)
    difference, largest = _compare(network, module, outputs)
    if not difference <= TOLERANCE:  # NaN is no agreement
        path.unlink(missing_ok=True)
        raise ModelError(
            "E_PACKAGE", network.name, f"as {kind} it differs from the original by "
            f"{difference:.2g}, more than {TOLERANCE:g}",
            "report it, and use --format monai-bundle or folder until it is mended",
        )  # fmt: skip
    return Exported(path.name, kind, difference, largest, (BATCH, 1), reason)


Outputs = list[list[np.ndarray]]


def _compare(network: Network, module: nn.Module, found: Outputs) -> tuple[float, float]:
    """Largest difference and largest value over all seeds, batches and outputs."""
    differences, values = [0.0], [0.0]
    for inputs, outputs in zip(_cases(network), found, strict=True):
        with torch.inference_mode():
            wanted = _listed(module(*inputs))
        for ours, theirs in zip(wanted, outputs, strict=True):
            differences.append(float(np.abs(ours.numpy() - theirs).max()))
            values.append(float(ours.abs().max()))
    return float(np.max(differences)), max(values)


def _cases(network: Network) -> Iterator[tuple[Tensor, ...]]:
    """Random inputs, whole batches and single ones, and zeros, which are unknown conditions."""
    for seed in SEEDS:
        inputs = network.examples(seed)
        yield inputs
        yield tuple(one[:1] for one in inputs)
    yield tuple(torch.zeros_like(one[:1]) for one in network.examples())


def _listed(outputs: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _dynamic(network: Network) -> tuple[dict[int, Any], ...]:
    """The first axis of every input is the batch, of any size."""
    return tuple({0: torch.export.Dim("batch")} for _ in network.inputs)


def _onnx_bytes(network: Network, module: nn.Module) -> bytes:
    with _quiet():
        program = torch.onnx.export(
            module, network.examples(), dynamo=True, opset_version=_OPSET, verbose=False,
            input_names=list(network.inputs), output_names=list(network.outputs),
            dynamic_shapes=_dynamic(network),
        )  # fmt: skip
        assert program is not None
        proto = program.model_proto
    _anonymise(proto)
    for key, value in {"network": network.name, "use": USE}.items():
        proto.metadata_props.add(key=key, value=value)
    proto.producer_name, proto.producer_version = "medgan", __version__
    return proto.SerializeToString(deterministic=True)


def _anonymise(proto: "ModelProto") -> None:
    """Takes out what torch notes of where code lies on this machine."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    for graph in (proto.graph, *proto.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
    values = (proto.graph.input, proto.graph.output, proto.graph.value_info)
    for value in (value for group in values for value in group):
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]


def _by_onnxruntime(network: Network, path: Path) -> Outputs:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = list(network.inputs)
    found = []
    for inputs in _cases(network):
        fed = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
        found.append([np.asarray(one) for one in session.run(list(network.outputs), fed)])
    return found


def _by_torch(network: Network, module: nn.Module, path: Path) -> Outputs:
    """Writes a program of torch.export and runs it as read back."""
    with _quiet():
        program = torch.export.export(
            module, network.examples(), dynamic_shapes=_dynamic(network), strict=False
        )
        for node in program.graph.nodes:  # they say where code lies on this machine
            node.meta.pop("stack_trace", None)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
    with torch.inference_mode():
        return [[one.numpy() for one in _listed(loaded(*inputs))] for inputs in _cases(network)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without notes of torch's exporter on packages that are not there, and its deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
