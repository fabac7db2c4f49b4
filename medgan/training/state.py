"""Everything a training is made of, and its flat form for a checkpoint."""

import copy
import json
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from medgan.core.randomness import Randomness
from medgan.core.ranks import Ranks
from medgan.networks.discriminator import Discriminator
from medgan.networks.gan import Networks
from medgan.networks.mismatch import mismatch
from medgan.training.moments import moments_from_tensors, moments_to_tensors
from medgan.training.monitor import Monitor

ADVERSARIAL_BETAS = (0.0, 0.9)
"""Adam's decays of gradients and of their squares against a discriminator. The second forgets a
spike within ten steps and so allows twice the learning rate of 0.99, which diverges at 4e-4
(docs/explanation/generator.md)."""


@dataclass
class TrainingState:
    """The moving parts of a training, whichever its task.

    Attributes:
        networks: those of the model.
        pair_discriminator: judges image and labels together and is not part of the model; None
            without labels.
        average: exponential moving average of `networks`; these weights are shipped.
        discriminator_optimizer, generator_optimizer: Adam, of the discriminators and of the
            networks that are trained against them.
        random: source of all latents and corruptions, on the CPU.
        device: of all networks.
        bf16: whether networks run under autocast.
        volumes_seen: real volumes of all steps so far; those that a generator step shows beside
            the discriminators' are not counted.
        volumes_drawn: position of the stream of real volumes.
        seconds: time trained so far, over all interruptions.
        monitor: how the training went so far.
        augment: probability of each augmentation, where it is adapted.
        heads: what a task trains beside the networks and is not part of the model; None for most.
        ranks: the processes that train together. All of them have the same state.
    """

    networks: Networks
    pair_discriminator: Discriminator | None
    average: Networks
    discriminator_optimizer: torch.optim.Adam
    generator_optimizer: torch.optim.Adam
    random: torch.Generator
    device: torch.device
    bf16: bool = True
    volumes_seen: int = 0
    volumes_drawn: int = 0
    seconds: float = 0.0
    monitor: Monitor = field(default_factory=Monitor)
    augment: float = 0.0
    heads: nn.Module | None = None
    ranks: Ranks = field(default_factory=Ranks)

    @classmethod
    def fresh(
        cls,
        networks: Networks,
        trained: Sequence[nn.Module],
        pair_discriminator: Discriminator | None,
        seed: int,
        device: torch.device,
        bf16: bool,
        betas: tuple[float, float] = ADVERSARIAL_BETAS,
        heads: nn.Module | None = None,
    ) -> "TrainingState":
        """A training at its very start.

        Args:
            networks: with fresh weights.
            trained: those of them that are trained against the discriminators.
            pair_discriminator: with fresh weights, or None.
            seed: of latents and corruptions.
            device: where the training runs.
            bf16: whether networks run under autocast.
            betas: Adam's, of the trained networks.
            heads: with fresh weights, among the trained; or None.
        """
        networks.to(device)
        discriminators: list[nn.Module] = [networks.critic]
        if networks.caption is not None:
            discriminators.append(networks.caption)
        if pair_discriminator is not None:
            layout = torch.channels_last_3d
            discriminators.append(pair_discriminator.to(device, memory_format=layout))  # pyright: ignore
        if heads is not None:
            heads.to(device)
        average = copy.deepcopy(networks)
        average.requires_grad(False)
        return cls(
            networks, pair_discriminator, average, _adam(discriminators, ADVERSARIAL_BETAS),
            _adam(trained, betas), torch.Generator().manual_seed(seed), device, bf16, heads=heads,
        )  # fmt: skip

    def discriminators(self) -> list[nn.Module]:
        """All discriminators, and the encoder of captions, which learns with them."""
        others = (self.pair_discriminator, self.networks.caption)
        return [self.networks.critic, *(other for other in others if other is not None)]

    def all_networks(self) -> dict[str, nn.Module]:
        """Every network that is trained, by name."""
        modules = dict(self.networks.modules())
        if self.pair_discriminator is not None:
            modules["pair discriminator"] = self.pair_discriminator
        if self.heads is not None:
            modules["projection heads"] = self.heads
        return modules

    @property
    def randomness(self) -> Randomness:
        """Numbers from `random` for the volumes of this process."""
        return self.ranks.randomness(self.random)

    def share(self, part: Sized, whole: Sized) -> float:
        """Of a part of this process's volumes in those of all of them.

        Args:
            part: of `whole`.
            whole: the volumes of a step, of which each process has as many.
        """
        return len(part) / len(whole) / self.ranks.size

    def autocast(self) -> torch.autocast:
        """bf16 autocast on the training's device, or a context that does nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def is_finite(self) -> bool:
        """Whether every weight is a finite number: what is not must not be saved."""
        parameters = (p for module in self._modules().values() for p in module.parameters())
        return all(bool(torch.isfinite(p).all()) for p in parameters)

    def size(self) -> float:
        """The sum of the absolute values of all weights: it tells two states apart."""
        parameters = (p for module in self._modules().values() for p in module.parameters())
        return float(torch.stack([p.detach().abs().sum() for p in parameters]).double().sum())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state under one flat name."""
        flat = {"random": self.random.get_state()}
        for name, module in self._modules().items():
            flat |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers().items():
            flat |= moments_to_tensors(optimizer, name)
        return {key: value.detach().cpu().contiguous() for key, value in flat.items()}

    def scalars(self) -> str:
        """The counters and the monitor, as JSON."""
        return json.dumps(
            {
                "volumes_seen": self.volumes_seen,
                "volumes_drawn": self.volumes_drawn,
                "seconds": self.seconds,
                "monitor": asdict(self.monitor),
                "augment": self.augment,
                "bf16": self.bf16,
            }
        )

    def restore(self, tensors: dict[str, Tensor], scalars: str) -> None:
        """Puts back what `tensors` and `scalars` gave.

        Raises:
            KeyError, RuntimeError: when they come from networks of other sizes.
        """
        for name, module in self._modules().items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for name, optimizer in self._optimizers().items():
            moments_from_tensors(optimizer, name, tensors)
        self.random.set_state(tensors["random"])
        values = json.loads(scalars)
        self.monitor = Monitor(**values.pop("monitor", {}))
        for key, value in values.items():
            setattr(self, key, value)

    def mismatch(self, tensors: Mapping[str, Tensor]) -> str:
        """Weights of another size in `tensors`, for a message; empty where all fit."""
        parts = {f"{name}.": module for name, module in self._modules().items()}
        here = {f"{part}{k}": v for part, m in parts.items() for k, v in m.state_dict().items()}
        return mismatch(here, {k: v for k, v in tensors.items() if k.startswith(tuple(parts))})

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {}
        for prefix, networks in (("networks", self.networks), ("average", self.average)):
            modules |= {f"{prefix}.{k}": module for k, module in networks.modules().items()}
        if self.pair_discriminator is not None:
            modules["pair_discriminator"] = self.pair_discriminator
        if self.heads is not None:
            modules["heads"] = self.heads
        return modules

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        return {
            "discriminator_optimizer": self.discriminator_optimizer,
            "generator_optimizer": self.generator_optimizer,
        }


def _adam(modules: Sequence[nn.Module], betas: tuple[float, float]) -> torch.optim.Adam:
    """An optimizer of all parameters of some networks; each step sets its learning rate."""
    parameters = [p for module in modules for p in module.parameters()]
    # Not fused: torch 2.13 takes moments that a checkpoint gave back in another memory layout.
    return torch.optim.Adam(parameters, betas=betas)
