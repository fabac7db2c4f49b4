"""A model's networks as plain functions of tensors, with what their inputs and outputs mean."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medgan.anomaly.context import input_channels
from medgan.core.config import Preprocessing
from medgan.data.conditions import width
from medgan.data.pairs import pairing_of
from medgan.model.model import Model
from medgan.networks.caption import CaptionEncoder
from medgan.networks.generator import Generator
from medgan.networks.localiser import Localiser
from medgan.networks.restorer import Restorer
from medgan.networks.translator import Translator

BATCH = 2
"""Of the examples; the batch of what is exported is free."""


@dataclass(frozen=True)
class Port:
    """An input or an output of a network.

    Attributes:
        shape: behind the batch.
        range: lowest and highest value; None where there is no bound.
        meaning: in a sentence, channel by channel where there are several.
    """

    shape: tuple[int, ...]
    range: tuple[float, float] | None
    meaning: str


@dataclass(frozen=True)
class Network:
    """A network to export.

    Attributes:
        name: of the file.
        module: takes the inputs in order, gives the outputs in order.
        inputs, outputs: by name.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Port]
    outputs: dict[str, Port]

    def examples(self, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs within their ranges, (BATCH, *shape); normal where there is no bound."""
        random = torch.Generator().manual_seed(seed)
        found = []
        for port in self.inputs.values():
            values = torch.randn(BATCH, *port.shape, generator=random)
            found.append(values if port.range is None else values.clamp(*port.range))
        return tuple(found)


def networks_of(model: Model) -> Iterator[Network]:
    """The networks that are used once a model is trained; discriminators stay behind."""
    if model.networks.synthesises:
        yield _generator(model)
        yield _encoder(model)
    if model.networks.localiser is not None:
        yield _localiser(model, model.networks.localiser)
    if model.networks.restorer is not None:
        yield _restorer(model, model.networks.restorer)
    if model.networks.translator is not None:
        yield _translator(model, model.networks.translator)


class _Generating(nn.Module):
    def __init__(self, generator: Generator, caption: CaptionEncoder | None) -> None:
        super().__init__()
        self.generator, self.caption = generator, caption

    def forward(
        self, latent: Tensor, condition: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        if condition is not None and self.caption is not None:
            condition = self.caption(condition)
        return self.generator(latent, condition, 0, noise)


class _Locating(nn.Module):
    def __init__(self, localiser: Localiser) -> None:
        super().__init__()
        self.localiser = localiser

    def forward(self, volume: Tensor) -> Tensor:
        return self.localiser.located(volume)


class _Restoring(nn.Module):
    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        found = self.restorer.parts(volume)
        return found.into(volume[:, : self.restorer.channels]), found.lesion


def _generator(model: Model) -> Network:
    grid, generator = model.preprocessing, model.networks.generator
    inputs = {"latent": Port((generator.latent,), None, "standard normal numbers")}
    if grid.conditions:
        meaning = "conditions as `conditions.json` encodes them; zeros where nothing is known"
        inputs["condition"] = Port((width(grid.conditions),), None, meaning)
    if generator.noise is not None:
        bands = generator.white_noise(1, torch.Generator())
        assert bands is not None
        meaning = "standard normal numbers for the noise of a scanner; zeros draw none"
        inputs["noise"] = Port(tuple(bands.shape[1:]), None, meaning)
    images = len(grid.channels)
    count = generator.out.out_channels // 8
    channels = [*grid.channels, *(f"label channel {n + 1}" for n in range(count - images))]
    outputs = {"volume": Port((count, *grid.shape), (-1.0, 1.0), _listed(channels))}
    return Network("generator", _Generating(generator, model.networks.caption), inputs, outputs)


def _encoder(model: Model) -> Network:
    latent = Port((model.sizes.latent,), None, "the latent that draws the scan again")
    return Network("encoder", model.networks.encoder, {"volume": _scan(model)}, {"latent": latent})


def _localiser(model: Model, localiser: Localiser) -> Network:
    grid = model.preprocessing
    logits = Port((1, *grid.shape), None, "logit of every voxel; higher is stranger")
    seen = _seen(grid, localiser.inputs)
    return Network("localiser", _Locating(localiser), {"volume": seen}, {"logits": logits})


def _restorer(model: Model, restorer: Restorer) -> Network:
    grid = model.preprocessing
    outputs = {
        "restored": Port((restorer.channels, *grid.shape), (-1.0, 1.0), "the scan, healthy"),
        "lesion": Port((1, *grid.shape), None, "logit of every voxel being unhealthy"),
    }
    seen = _seen(grid, restorer.inputs)
    return Network("restorer", _Restoring(restorer), {"volume": seen}, outputs)


def _translator(model: Model, translator: Translator) -> Network:
    grid, conversion = model.preprocessing, translator.conversion
    pairing = pairing_of(grid, conversion)
    given, wanted = pairing.source_channels, pairing.target_channels
    meaning = f"the {given} channels of the task {conversion.task}, of {_listed(conversion.source)}"
    inputs = {"source": Port((given, *grid.shape), (-1.0, 1.0), meaning)}
    if conversion.noise:
        meaning = "standard normal, one number a voxel; zeros give the most usual answer"
        inputs["noise"] = Port((1, *grid.shape), None, meaning)
    outputs = {
        "target": Port((wanted, *grid.shape), (-1.0, 1.0), _listed(conversion.target) or "the scan")
    }
    return Network("translator", translator, inputs, outputs)


def _scan(model: Model) -> Port:
    grid = model.preprocessing
    return Port((len(grid.channels), *grid.shape), (-1.0, 1.0), _listed(grid.channels))


def _seen(grid: Preprocessing, inputs: Sequence[str]) -> Port:
    """The scan with further inputs, of which only the scan is bounded."""
    images = len(grid.channels)
    further = [
        name if name == "density" or images == 1 else f"{name} of {channel}"
        for name in inputs
        for channel in (grid.channels if name != "density" else ("",))
    ]
    count, names = input_channels(inputs, images), [*grid.channels, *further]
    bound = None if further else (-1.0, 1.0)
    return Port((count, *grid.shape), bound, f"{_listed(names)}; scans in [-1, 1]")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
