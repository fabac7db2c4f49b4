"""Everything a training is made of, and its flat form for a checkpoint."""

import copy
import json
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan.core.config import ModelConfig, Preprocessing, TrainConfig
from medgan.data.codebook import channels
from medgan.data.conditions import width, widths
from medgan.networks.discriminator import Discriminator
from medgan.networks.gan import Networks
from medgan.training.monitor import Monitor

BETA2 = 0.9
"""Adam's decay of squared gradients. It forgives a spike within ten steps and so bears twice the
learning rate of 0.99, which diverges at 4e-4 (docs/explanation/generator.md)."""


@dataclass
class TrainingState:
    """The moving parts of a training.

    Attributes:
        networks: generator, encoder and the discriminator that scores.
        pair_discriminator: judges image and labels together; None where nothing is labelled.
        average: exponential moving average of `networks`; this is what is shipped.
        critic_optimizer, generator_optimizer: Adam, of the discriminators and of generator
            and encoder.
        random: source of all latents and corruptions, on the CPU.
        condition_widths: columns that each condition takes in an encoded one.
        volumes_seen: real volumes shown to the discriminators so far.
        volumes_drawn: position of the stream of real volumes.
        seconds: time trained so far, over all interruptions.
        monitor: how the training went so far.
        augment: probability of each augmentation, where it is adapted.
    """

    networks: Networks
    pair_discriminator: Discriminator | None
    average: Networks
    critic_optimizer: torch.optim.Adam
    generator_optimizer: torch.optim.Adam
    random: torch.Generator
    device: torch.device
    condition_widths: tuple[int, ...] = ()
    volumes_seen: int = 0
    volumes_drawn: int = 0
    seconds: float = 0.0
    monitor: Monitor = field(default_factory=Monitor)
    augment: float = 0.0

    @classmethod
    def fresh(
        cls,
        preprocessing: Preprocessing,
        model: ModelConfig,
        config: TrainConfig,
        device: torch.device,
    ) -> "TrainingState":
        """A training at its very start; weights are a function of the seed."""
        torch.manual_seed(config.seed)
        condition = width(preprocessing.conditions)
        networks = Networks.build(
            preprocessing.shape,
            channels(preprocessing.labels),
            **model.model_dump(),
            condition=condition,
            windows=preprocessing.views,
        )
        if config.init_background:
            networks.generator.init_background()
        pair = None
        if preprocessing.labels:
            pair = Discriminator(
                preprocessing.shape,
                1 + channels(preprocessing.labels),
                tuple(max(8, w // 2) for w in model.widths),
                stem_channels=0,
                blocks=1,
                condition=condition,
                stem_stages=model.stem_stages,
                windows=preprocessing.views,
            ).to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        networks.to(device)
        average = copy.deepcopy(networks)
        average.requires_grad(False)
        critics: list[nn.Module] = [networks.critic, *([pair] if pair else [])]
        builders: list[nn.Module] = [networks.generator, networks.encoder]
        return cls(
            networks, pair, average, _adam(critics, config), _adam(builders, config),
            torch.Generator().manual_seed(config.seed), device, widths(preprocessing.conditions),
        )  # fmt: skip

    def draw_latents(self, count: int) -> Tensor:
        """Standard normal latents (count, L) on the training's device."""
        shape = (count, self.networks.generator.latent)
        return torch.randn(shape, generator=self.random).to(self.device)

    def drop_conditions(
        self, condition: Float[Tensor, "B D"], share: float
    ) -> Float[Tensor, "B D"]:
        """Makes a share of what is known unknown, each condition of each scan on its own."""
        if not self.condition_widths:
            return condition
        shape = (len(condition), len(self.condition_widths))
        kept = torch.rand(shape, generator=self.random) >= share
        columns = kept.repeat_interleave(
            torch.tensor(self.condition_widths, device=kept.device), dim=1
        )
        return condition * columns.to(self.device)

    def is_finite(self) -> bool:
        """Whether every weight is a finite number: what is not must not be saved."""
        parameters = (p for module in self._modules().values() for p in module.parameters())
        return all(bool(torch.isfinite(p).all()) for p in parameters)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state under one flat name."""
        flat = {"random": self.random.get_state()}
        for name, module in self._modules().items():
            flat |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers().items():
            for number, moments in optimizer.state_dict()["state"].items():
                flat |= {f"{name}.{number}.{key}": value for key, value in moments.items()}
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
            values = optimizer.state_dict()
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}."):
                    _, number, moment = key.rsplit(".", 2)
                    moments.setdefault(int(number), {})[moment] = value
            values["state"] = moments
            optimizer.load_state_dict(values)
        self.random.set_state(tensors["random"])
        values = json.loads(scalars)
        self.monitor = Monitor(**values.pop("monitor", {}))
        for key, value in values.items():
            setattr(self, key, value)

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {}
        for prefix, networks in (("networks", self.networks), ("average", self.average)):
            modules |= {f"{prefix}.{k}": module for k, module in networks.modules().items()}
        if self.pair_discriminator is not None:
            modules["pair_discriminator"] = self.pair_discriminator
        return modules

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        return {
            "critic_optimizer": self.critic_optimizer,
            "generator_optimizer": self.generator_optimizer,
        }


def _adam(modules: list[nn.Module], config: TrainConfig) -> torch.optim.Adam:
    parameters = [p for module in modules for p in module.parameters()]
    return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(0.0, BETA2))
