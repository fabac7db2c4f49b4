"""A device that is not the CPU, on a machine without one.

Tensors of the simulated device hold a CPU tensor and compute with it, so that values, control flow
and gradients are real. What an accelerator would refuse is refused: operations on tensors of two
devices, a generator of another device, and NumPy.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

aten = torch.ops.aten
NAME = "simulated"


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_available(self) -> bool:
        return True


_setup_privateuseone_for_python_backend(rename=NAME, backend_module=_Backend())
DEVICE = torch.device(NAME, 0)
_AUTOCAST = torch.library.Library("_", "IMPL")
_AUTOCAST.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")

_ACROSS = ("aten::copy_", "aten::_to_copy", "aten::to")
"""Operations that may read from one device and write to another."""
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
            aten._index_put_impl_.default}  # fmt: skip
"""Operations that take indices of the CPU."""


used: set[str] = set()
"""Names of the operations on tensors of the device; a test empties it first."""


class DeviceError(RuntimeError):
    """An operation that an accelerator would refuse."""


class SimulatedTensor(Tensor):
    """A tensor that says it is on the simulated device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, layout=held.layout, device=DEVICE,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self):
        return f"SimulatedTensor({self.held!r})"

    def tolist(self):
        return self.detach().cpu().tolist()

    def numpy(self, *, force=False):
        raise TypeError(f"can't convert a tensor of {NAME} to numpy; copy it to the CPU first")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes new tensors on the simulated device where they are asked to be."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    """Computes with the tensors held, and wraps what comes out."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    inside = any(isinstance(t, SimulatedTensor) for t in tensors)
    _check(func, args, tensors, inside)
    if inside:
        used.add(func._schema.name.removeprefix("aten::"))
    target = kwargs.get("device") or next((a for a in args if isinstance(a, torch.device)), None)
    on_device = inside if target is None else torch.device(target).type == NAME
    generator = kwargs.get("generator")
    if on_device and generator is not None and generator.device.type != NAME:
        raise DeviceError(f"{func}: expected a generator of {NAME}, found one of the CPU")
    given, named = tree_map_only(SimulatedTensor, lambda t: t.held, (args, kwargs))
    if target is not None:
        given, named = tree_map_only(torch.device, lambda _: torch.device("cpu"), (given, named))
    with torch._C._DisableTorchDispatch():
        out = func(*given, **named)
    if func is aten._local_scalar_dense.default:
        return out
    if func._schema.is_mutable:
        written = [
            kwargs.get(argument.name, args[place] if place < len(args) else None)
            for place, argument in enumerate(func._schema.arguments)
            if argument.is_write
        ]
        if len(func._schema.returns) == len(written) == 1:
            return written[0]
        if not func._schema.returns:
            return None
    if not on_device:
        return out
    return tree_map_only(Tensor, SimulatedTensor, out)


def _check(func, args, tensors, inside) -> None:
    """Raises where tensors of two devices meet: scalars and indices may come from the CPU."""
    if not inside or func._schema.name in _ACROSS:
        return
    if func in _INDEXED and isinstance(args[0], SimulatedTensor):
        tensors = [args[0], *(t for t in args[2:3] if isinstance(t, Tensor))]
    foreign = [t for t in tensors if not isinstance(t, SimulatedTensor)]
    scalars = torch.Tag.pointwise in func.tags or func in _INDEXED
    if any(t.ndim or not scalars for t in foreign):
        shapes = [f"{t.device} {tuple(t.shape)}" for t in tensors]
        raise DeviceError(f"{func}: expected all tensors on one device, found {shapes}")


@contextmanager
def simulated_device() -> Iterator[torch.device]:
    """Inside, tensors can be made on the device that is given, and moved to it."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Factories():
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
