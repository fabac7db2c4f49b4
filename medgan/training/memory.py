"""How much memory a training step takes, found out without taking it."""

import copy
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medgan.core.config import Config, Preprocessing
from medgan.core.errors import EnvironmentFailure
from medgan.core.ranks import Ranks
from medgan.core.system import free_ram, gigabytes
from medgan.training.steps import average_step
from medgan.training.tasks import chosen_task
from medgan.training.tasks.task import fullest_step

_BYTES_A_VOXEL = 4096
"""More than a step takes for each voxel of a batch with networks of usual widths (32 x 48 x 32
with labels takes 900): where even that is free, nothing has to be predicted."""

_KERNELS, _KERNELS_SHARE = 11 * 2**20, 0.03
"""Bytes that kernels take in any step, and as a share of all tensors; from 32³ to 256³ the sum is
then 4% from what was measured (docs/how-to/sizes.md)."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a training takes at full size, all labelled, with penalties and encoder.

    Attributes:
        resident: weights, averages, gradients, moments and two batches.
        discriminator, generator: tensors, the most during a step, the resident ones counted.
    """

    resident: int
    discriminator: int
    generator: int

    @property
    def kernels(self) -> int:
        """What kernels take for themselves: workspaces, reordered weights."""
        return int(_KERNELS + _KERNELS_SHARE * max(self.discriminator, self.generator))

    @property
    def peak(self) -> int:
        """The most of all, kernels included."""
        return max(self.discriminator, self.generator) + self.kernels


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that are alive, now and at the most.

    Each operation's outputs are counted once a storage and forgotten when the storage is
    freed: views, saved activations and gradients count as an allocator would count them, but
    not what a kernel takes for itself.

    Attributes:
        now, peak: in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def add(self, tensors: Iterable[object]) -> None:
        """Counts tensors that were made outside."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._sizes:
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata).atexit = False
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1  # "is this loss finite", "is anything labelled": tensors without values
        if func is torch.ops.aten.index.Tensor and args[1][0].dtype == torch.bool:
            out = args[0].clone()  # every scan is labelled
        else:
            out = func(*args, **(kwargs or {}))
        self.add(tree_leaves(out))
        return out


class _CopyAsFake(TorchFunctionMode):
    """Inside, a deep copy of a tensor has no content and is on the CPU, wherever the tensor is.

    torch's FakeCopyMode keeps the device; tensors made for a step would then have to be made on it.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            return memo.setdefault(id(tensor), self._without_content(tensor))
        if func is Tensor.clone:  # the copy of a parameter asks for it
            return self._without_content(args[0])
        return func(*args, **(kwargs or {}))

    def _without_content(self, tensor: Tensor) -> Tensor:
        size, stride = tensor.size(), tensor.stride()
        with self._mode:
            empty = torch.empty_strided(size, stride, dtype=tensor.dtype, device="cpu")
        return empty.requires_grad_(tensor.requires_grad)


def predict_memory(config: Config, preprocessing: Preprocessing, ranks: int = 1) -> StepMemory:
    """Runs the real steps on tensors without content and counts what would be alive.

    What kernels take for themselves is estimated; the process itself and its libraries are not in
    it.

    Args:
        config: of the training; the steps that take most are assumed.
        preprocessing: its grid and labels.
        ranks: processes that share each batch; the memory is that of one.
    """
    task = chosen_task(preprocessing, config)
    # Wherever the training runs, its tensors are counted on the CPU: their sizes are the same.
    cpu, fake, live = torch.device("cpu"), FakeTensorMode(), LiveBytes()
    random = torch.random.get_rng_state()
    state = task.start(cpu)
    torch.random.set_rng_state(random)
    with _CopyAsFake(fake):
        state = copy.deepcopy(state, {id(state.random): state.random})
    with fake, live:
        optimizers = (state.discriminator_optimizer, state.generator_optimizer)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        live.add(p for module in state.all_networks().values() for p in module.parameters())
        live.add(p for module in state.average.modules().values() for p in module.parameters())
        added = 0 if ranks == 1 else max(map(_gradients, optimizers))
        batches = [task.example(config.train.batch // ranks, cpu) for _ in range(2)]
        resident = live.peak = live.now
        state.volumes_seen = fullest_step(task)
        task.discriminator_step(state, batches[0])
        discriminator, live.peak = live.peak, live.now
        task.generator_step(state, batches[1])
        average_step(state, task.schedule)
    least = resident + added  # once a step's activations are gone
    return StepMemory(resident, max(discriminator, least), max(live.peak, least))


def _gradients(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all gradients, which are put side by side to be added up."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    return sum(p.numel() * p.element_size() for p in parameters)


def free_memory(device: torch.device) -> int:
    """Bytes that a training can still allocate."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_ram()


def refuse_what_cannot_fit(
    config: Config, preprocessing: Preprocessing, device: torch.device, ranks: Ranks | None = None
) -> None:
    """Stops a training that would run out of memory before it begins.

    Args:
        config: of the training.
        preprocessing: its grid and labels.
        device: where it runs.
        ranks: the processes that share each batch, and a machine's main memory; None for one. The
            one with the least memory decides for all.

    Raises:
        EnvironmentFailure: E_MEMORY, with what is needed and what is free.
    """
    ranks = ranks or Ranks()
    free = min(ranks.exchange(free_memory(device) // (1 if device.type == "cuda" else ranks.local)))
    x, y, z = preprocessing.shape
    if _BYTES_A_VOXEL * ranks.share_of(config.train.batch) * x * y * z < free:
        return
    refuse(predict_memory(config, preprocessing, ranks.size), free)


def refuse(needed: StepMemory, free: int) -> None:
    """Raises E_MEMORY where more is needed than is free."""
    if needed.peak > free:
        raise EnvironmentFailure(
            "E_MEMORY", "train", f"a step takes {gigabytes(needed.peak)} of {gigabytes(free)} free",
            "set train.micro_batch=1 or train.checkpoint_activations=true, model.stem_stages=2, "
            "fewer model.stem_channels or model.blocks, or a smaller train.batch or data.shape",
        )  # fmt: skip
