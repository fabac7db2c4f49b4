"""White-box attacks: scores from a model folder that may be higher for its training scans."""

from collections import defaultdict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.context import ScoringContext
from medgan.anomaly.scorers import available, make_maps
from medgan.model.inversion import encode_volumes
from medgan.model.model import Model

SCORERS = ("residual", "density", "discriminator", "latent", "localiser", "restoration")
"""Scorers used as attacks: a training scan may look less unusual to the model."""
BATCH = 8


def white_box_scores(
    model: Model,
    volumes: Float[Tensor, "N 1 X Y Z"],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Float[Tensor, " N"]]:
    """Scores of all attacks that a model folder allows, higher for likely members.

    `logit` is the discriminator's, where the model has one. `flatness` is the negative norm of its
    gradient, which the gradient penalty keeps small at training scans. `hull` is the negative
    distance from the latents of the training scans, `deviation` that from the mean scan of an
    aligned model. The others are negative means of the score maps that the model has.

    Args:
        model: with densities and localiser where it has them.
        volumes: intensities in [-1, 1].
        progress: called with the number of volumes done and their total.

    Reference: Hayes et al. 2019, arXiv 1705.07663 (the discriminator's logit).
    """
    networks = model.scoring_networks()
    names = tuple(name for name in SCORERS if name in available(networks))
    found: dict[str, list[Tensor]] = defaultdict(list)
    done = 0
    for part in volumes.split(BATCH):
        part = part.to(model.device, memory_format=torch.channels_last_3d)
        if model.networks.discriminator is not None:
            logit, slope = _logits(model, part)
            found["logit"].append(logit)
            found["flatness"].append(-slope)
        if model.hull is not None:
            distance = model.hull.distance(encode_volumes(model, part).numpy())
            found["hull"].append(-torch.from_numpy(distance))
        with torch.inference_mode():
            context = ScoringContext(part, networks)
            maps = make_maps(context, names)
            if networks.healthy is not None:
                maps["deviation"] = context.deviation.abs().float().cpu()
        for name, score_map in maps.items():
            found[name].append(-score_map.flatten(1).mean(dim=1))
        done += len(part)
        progress(done, len(volumes))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _logits(model: Model, volumes: Tensor) -> tuple[Tensor, Tensor]:
    """The discriminator's logits, and the norms of their gradients."""
    with torch.enable_grad():
        inputs = volumes.detach().clone().requires_grad_()
        logits = model.networks.critic(inputs)
        slope = torch.autograd.grad(logits.sum(), inputs)[0]
    return logits.detach().cpu(), slope.flatten(1).norm(dim=1).cpu()
