"""What a model folder says of a scan: scores that may be higher for those it was trained on."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.scorers import ScoringContext, available, make_maps
from medgan.model.model import Model

SCORERS = ("residual", "density", "discriminator", "latent", "localiser")
"""Of the model's scorers, those tried as attacks: a scan that was learned from is less unusual."""
BATCH = 8


def inside_scores(
    model: Model,
    volumes: Float[Tensor, "N 1 X Y Z"],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Float[Tensor, " N"]]:
    """Scores of every attack that a model folder allows, higher for more likely trained on.

    `logit` is the discriminator's, where the model has one, `flatness` the negative slope of it,
    which its penalty keeps small at training scans; the others are negative means of the model's
    own score maps.

    Args:
        model: with densities and localiser where it has them.
        volumes: intensities in [-1, 1].
        progress: told how many of how many are done.

    Reference: Hayes et al. 2019, arXiv 1705.07663 (the discriminator's logit).
    """
    scoring_networks = model.scoring_networks()
    names = tuple(name for name in SCORERS if name in available(scoring_networks))
    judged = () if model.networks.discriminator is None else ("logit", "flatness")
    found: dict[str, list[Tensor]] = {name: [] for name in (*judged, *names)}
    for part in volumes.split(BATCH):
        part = part.to(model.device, memory_format=torch.channels_last_3d)
        if judged:
            logit, slope = _judged(model, part)
            found["logit"].append(logit)
            found["flatness"].append(-slope)
        with torch.inference_mode():
            for name, score_map in make_maps(ScoringContext(part, scoring_networks), names).items():
                found[name].append(-score_map.flatten(1).mean(dim=1))
        progress(sum(map(len, found["residual"])), len(volumes))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _judged(model: Model, volumes: Tensor) -> tuple[Tensor, Tensor]:
    """The discriminator's logits, and the lengths of their gradients."""
    with torch.enable_grad():
        seen = volumes.detach().clone().requires_grad_()
        logits = model.networks.critic(seen)
        slope = torch.autograd.grad(logits.sum(), seen)[0]
    return logits.detach().cpu(), slope.flatten(1).norm(dim=1).cpu()
