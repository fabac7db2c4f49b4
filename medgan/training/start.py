"""A training that starts from the weights of another model."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from torch import nn

from medgan.core.config import (
    Config,
    DataConfig,
    ImageTask,
    ModelConfig,
    Preprocessing,
    TranslateConfig,
)
from medgan.core.errors import ModelError
from medgan.data.manifest import Case
from medgan.data.numeric import NUMBERS
from medgan.data.plan import plan
from medgan.model.model import Model
from medgan.training.state import TrainingState

log = logging.getLogger(__name__)
_DRAWING = ("synthesis", "sequence")
"""Tasks whose networks can go on from coarser ones."""


def adopted(data: DataConfig, grid: Preprocessing) -> DataConfig:
    """The data section, voxel size and shape that it leaves open taken from the grid of a model."""
    wanted = {"spacing": grid.spacing, "shape": grid.shape}
    return data.model_copy(
        update={name: value for name, value in wanted.items() if getattr(data, name) == "auto"}
    )


def start_plan(
    config: Config, cases: Sequence[Case], start: Model, task: str = ""
) -> Preprocessing:
    """The preprocessing of a training that starts from a model; its template is the model's.

    Of a training on voxels of half the size it has none yet.

    Args:
        config: all settings.
        cases: the training cases.
        start: the model.
        task: that it must have a network for; empty where scorers alone are learned.

    Raises:
        ConfigError: of `plan`.
        ModelError: E_START when weights of the model do not belong into such a training.
    """
    grid = start.preprocessing
    found = plan(adopted(config.data, grid), cases)
    require_fit(found, config.model, task, start)
    _require_same_conversion(config.translate, start)
    return found.model_copy(
        update={"template": grid.template if found.shape == grid.shape else None}
    )


def require_fit(preprocessing: Preprocessing, sizes: ModelConfig, task: str, start: Model) -> None:
    """Refuses a model of another grid, of other scans, sizes or task.

    A generator of the same field of view in voxels twice as large fits, too, where the networks
    have one more stage of the stem, of half the channels, and else are alike. Residual blocks of
    the stem may be added: fresh ones change nothing at first.

    Raises:
        ModelError: E_START, with all that differs and the settings that would fit.
    """
    here = _settings(preprocessing, sizes, task)
    there = _settings(start.preprocessing, start.sizes, _task_of(start, task))
    there["model.stem_blocks"] = max(there["model.stem_blocks"], here["model.stem_blocks"])
    others = {name: value for name, value in there.items() if here[name] != value}
    finer = task in _DRAWING and here == _twice_as_fine(there)
    if others and not finer:
        what = ", ".join(
            f"{name} {_text(here[name])} here and {_text(value)} there"
            for name, value in others.items()
        )
        remedy = " ".join(f"{name}={_text(value)}" for name, value in others.items())
        raise ModelError(
            "E_START", "the model to start from", f"does not fit: {what}",
            f"set {remedy}, or start from another model",
        )  # fmt: skip


def _require_same_conversion(wanted: TranslateConfig, start: Model) -> None:
    """Refuses a model that makes another image, or of other images.

    Raises:
        ModelError: E_START.
    """
    translator = start.networks.translator
    if translator is None or not translator.conversion.paired:
        return
    there = asdict(translator.conversion)
    del there["task"]
    if {name: getattr(wanted, name) for name in there} != there:
        remedy = " ".join(f"translate.{name}={_text(value)}" for name, value in there.items())
        raise ModelError(
            "E_START", "the model to start from", "makes something else of other channels",
            f"set {remedy}, or start from another model",
        )  # fmt: skip


def _task_of(model: Model, wanted: str) -> str:
    """The wanted task where a model has the network for it, else one that it can do."""
    translator = model.networks.translator
    able = {
        "synthesis": model.networks.synthesises,
        "sequence": model.networks.synthesises,
        "restoration": model.networks.restorer is not None,
        **{task: False for task in get_args(ImageTask)},
        **({} if translator is None else {translator.conversion.task: True}),
    }
    if able.get(wanted, True):
        return wanted
    return next((task for task, has in able.items() if has), "none")


def _settings(grid: Preprocessing, sizes: ModelConfig, task: str) -> dict[str, Any]:
    """What has to be alike, by the names of the settings."""
    names = ("spacing", "shape", "channels", "intensity", "window", "labels")
    spaces = ("brain", "bias", "align", "patches", "unseen", "ranges")
    found = {f"data.{name}": getattr(grid, name) for name in (*names, *spaces)}
    found["data.conditions"] = {
        one.name: one.kind if one.kind in NUMBERS else (one.kind, *one.values)
        for one in grid.conditions
    }
    found |= {f"model.{name}": getattr(sizes, name) for name in ModelConfig.model_fields}
    return found | {"train.task": task}


def _twice_as_fine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a model must have to start from one with these settings and draw finer voxels."""
    return {
        **settings,
        "data.spacing": tuple(size / 2 for size in settings["data.spacing"]),
        "data.shape": tuple(2 * count for count in settings["data.shape"]),
        "model.stem_stages": settings["model.stem_stages"] + 1,
        "model.stem_channels": settings["model.stem_channels"] // 2,
    }


def _text(value: Any) -> str:  # noqa: ANN401 - of any setting
    """A value as `--set` takes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def start_from(state: TrainingState, start: Model) -> None:
    """Puts the weights of a model into the networks and into their average.

    A discriminator that the model has not kept begins with fresh weights, as do the optimizers and
    the discriminator of images with labels, which no model keeps. Of a model with larger voxels the
    finest layers are left out.
    """
    found = start.networks.modules()
    for networks in (state.networks, state.average):
        for name, module in networks.modules().items():
            if name in found:
                _copy(found[name], module)
    if "discriminator" not in found:
        log.info("the model to start from has no discriminator: a fresh one learns beside it")


def _copy(source: nn.Module, to: nn.Module) -> None:
    """All weights of the same name and size: every one where both have the same settings."""
    own = to.state_dict()
    same = {
        name: value
        for name, value in source.state_dict().items()
        if name in own and own[name].shape == value.shape
    }
    to.load_state_dict(own | same)
