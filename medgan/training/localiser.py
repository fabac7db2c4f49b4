"""Teaching the localiser what does not belong, once generator and encoder are done."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.context import ScoringContext, ScoringNetworks, network_input
from medgan.anomaly.statistics import MapStatistics
from medgan.core.config import LocaliserConfig
from medgan.core.errors import Interrupted, TrainingDiverged
from medgan.core.ranks import Ranks
from medgan.core.threads import shared_cores
from medgan.data import lesions
from medgan.networks.device import uses_bf16
from medgan.networks.localiser import Localiser
from medgan.networks.losses import localisation_loss
from medgan.training.corruption import ALIGNED, SHAPES
from medgan.training.lesioned import HealthyScans, lesioned_scan
from medgan.training.localiser_state import LocaliserState, restore_state, save_state
from medgan.training.patches import cut_patches, patches_of
from medgan.training.steps import move
from medgan.training.stopping import stop_requests

CHECKPOINT = "localiser.safetensors"
FAMILIES = (*lesions.FAMILIES, *SHAPES)
"""Lesions to learn from: `lesions.FAMILIES` and shapes of real lesions."""
BATCH, LEARNING_RATE = 8, 1e-3
"""Patches in a step; AdamW's learning rate before it falls in the second half."""
_CHECKPOINT_SECONDS = 120.0
_WARMUP = 400


def localiser_inputs(networks: ScoringNetworks) -> tuple[str, ...]:
    """What a localiser sees beside the scan: how unusual each voxel is, and what is usual there.

    Where scans are aligned, the latter is the signed deviation from the mean healthy scan, else the
    scan's healthy counterpart.
    """
    return ("density", "recon" if networks.healthy is None else "deviation")


def train_localiser(
    scoring_networks: ScoringNetworks,
    latent: int,
    localiser: Localiser,
    volumes: Sequence[Float[np.ndarray, "C X Y Z"]],
    families: Sequence[str],
    config: LocaliserConfig,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    started_from: str = "",
    ranks: Ranks | None = None,
) -> int:
    """Trains on healthy scans with planted lesions, and on what the generator makes of them.

    What scan i of step n shows is a function of the seed, n and i alone, so that a training that
    was stopped goes on from its last checkpoint as if it never had. Of several processes each makes
    its share of the scans of a step; those for which none is left only keep up.

    Args:
        scoring_networks: of the trained model, whose own localiser is not used.
        latent: length of its latents.
        localiser: with fresh weights or those of another model; changed in place.
        volumes: healthy training scans, (C, X, Y, Z) in [-1, 1].
        families: lesions to plant.
        config: length of the training.
        seed: of the lesions.
        folder: receives the checkpoint.
        progress: called with how many of how many volumes, or seconds, are done.
        started_from: says which weights the localiser comes with; empty for fresh ones.
        ranks: the processes that train together; None for this one alone.

    Returns:
        Scans or patches that it saw, those before an interruption included.

    Raises:
        Interrupted: E_STOPPED after SIGTERM or SIGINT, with a checkpoint written.
        TrainingDiverged: E_NAN, on all processes, when the gradient of one is not finite.
    """
    ranks = ranks or Ranks()
    device = next(localiser.parameters()).device
    bf16 = bool(ranks.by_leader(lambda: uses_bf16("auto", device.type)))
    fast = {
        name: network and _autocast(network, device, bf16)
        for name in ("encode", "generate", "restore")
        for network in (getattr(scoring_networks, name),)
    }
    scoring_networks = replace(scoring_networks, **fast, localise=None, inputs=localiser.inputs)
    extent = 1.0 if scoring_networks.healthy is None else ALIGNED
    patches = patches_of(volumes[0].shape[1:])
    state = LocaliserState.fresh(localiser, device)
    fingerprint = _fingerprint(scoring_networks, volumes[0], device)
    parts = [list(families), seed, config.model_dump(), len(volumes), fingerprint]
    identity = json.dumps([*parts, started_from] if started_from else parts)
    checkpoint = folder / CHECKPOINT
    restore_state(state, checkpoint, identity)
    scans = HealthyScans(volumes, scoring_networks.healthy)
    count = BATCH // patches
    sharing = max(n for n in range(1, ranks.size + 1) if count % n == 0)

    def show() -> Shown | None:
        """What this process shows in a step: scans or patches; None where none is left for it."""
        rng = np.random.default_rng([seed, state.volumes_seen])
        donor = _generated(scoring_networks, latent, rng, device)
        rngs = [np.random.default_rng([seed, state.volumes_seen, n]) for n in range(count)]
        own = rngs[ranks.rank :: sharing] if ranks.rank < sharing else []
        if not own:
            return None
        made = [lesioned_scan(scans, donor, families, one, extent, min(patches, 2)) for one in own]
        corrupted, truth, mean, spread = (
            torch.from_numpy(np.stack(part)).to(device) for part in zip(*made, strict=True)
        )
        known = MapStatistics(mean, spread) if scans.bent else None
        with torch.no_grad():
            context = ScoringContext(corrupted, scoring_networks, known)
            inputs = network_input(context, scoring_networks.inputs)
        if patches == 1:
            return Shown(inputs, truth)
        cut = [
            cut_patches(inputs[n : n + 1], truth[n : n + 1], patches, one)
            for n, one in enumerate(own)
        ]
        return Shown(*(torch.cat(part) for part in zip(*cut, strict=True)))

    with stop_requests() as stop:
        ranks.exchange(True)
        saved = time.monotonic()
        while state.progress(config) < 1:
            started = time.monotonic()
            with _converging(state), ranks.stepping():
                state.optimizer.zero_grad(set_to_none=True)
                _learn(state, show(), ranks, 1 / sharing, bf16)
                rate = LEARNING_RATE * _share_of_rate(state, config)
                move(ranks, state.optimizer, rate, longest=1.0)
            state.volumes_seen += BATCH
            late = time.monotonic() - saved > _CHECKPOINT_SECONDS
            heard = ranks.exchange([bool(stop), time.monotonic() - started, late])
            stopping, (_, seconds, late) = any(one[0] for one in heard), heard[0]
            state.seconds += seconds
            done = state.seconds if config.minutes else state.volumes_seen
            progress(int(done), int(60 * config.minutes) or config.volumes)
            if late or stopping or state.progress(config) >= 1:
                if ranks.leads:
                    save_state(state, checkpoint, identity)
                saved = time.monotonic()
                shared_cores().share()
            if stopping and state.progress(config) < 1:
                raise Interrupted(
                    "E_STOPPED", f"at {state.volumes_seen} volumes of the localiser",
                    "asked to stop", "run the same command again to continue",
                )  # fmt: skip
    return state.volumes_seen


class Shown(NamedTuple):
    """What a localiser is shown: its inputs, and where they are not healthy."""

    inputs: Float[Tensor, "B C X Y Z"]
    truth: Float[Tensor, "B 1 X Y Z"]


@contextmanager
def _converging(state: LocaliserState) -> Iterator[None]:
    """A step whose gradient is not finite ends the training, before it moves anything."""
    try:
        yield
    except FloatingPointError:
        raise TrainingDiverged(
            "E_NAN", f"at {state.volumes_seen} volumes of the localiser",
            "numbers are no longer finite",
            "try another train.seed; localiser.volumes=0 leaves the localiser out",
        ) from None  # fmt: skip


def _learn(
    state: LocaliserState, shown: Shown | None, ranks: Ranks, share: float, bf16: bool
) -> None:
    """Adds to the gradients by what one of several processes shows, its share of a step.

    One with nothing to show adds nothing to the sums that the others ask for.
    """
    device = next(state.localiser.parameters()).device
    if shown is None:
        ranks.total(torch.zeros(2, device=device))
        return
    inputs = shown.inputs.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = state.localiser(inputs)
    loss = share * localisation_loss(
        logits.float(), shown.truth, summed=lambda own: ranks.summed(own, share)
    )
    loss.backward()


def _fingerprint(
    scoring_networks: ScoringNetworks, volume: np.ndarray, device: torch.device
) -> str:
    """What a localiser sees of a volume, in a number: another model shows something else."""
    with torch.no_grad():
        context = ScoringContext(torch.from_numpy(volume)[None].to(device), scoring_networks)
        shown = network_input(context, scoring_networks.inputs)
    return f"{float(shown.double().square().mean()):.3g}"


def _generated(
    scoring_networks: ScoringNetworks, latent: int, rng: np.random.Generator, device: torch.device
) -> Float[np.ndarray, "C X Y Z"] | None:
    """Foreign tissue from the generator, if there is one."""
    if scoring_networks.generate is None:
        return None
    latents = torch.from_numpy(rng.standard_normal((1, latent))).float().to(device)
    with torch.no_grad():
        return scoring_networks.generate(latents)[0].float().cpu().numpy()


def _autocast(
    function: Callable[[Tensor], Tensor], device: torch.device, bf16: bool
) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return function(
                x.contiguous(memory_format=torch.channels_last_3d) if x.ndim == 5 else x
            )

    return run


def _share_of_rate(state: LocaliserState, config: LocaliserConfig) -> float:
    """Rises over the warm-up, stays for half, falls linearly to 2%."""
    rise = min(1.0, (state.volumes_seen + BATCH) / _WARMUP)
    return rise * max(0.02, min(1.0, 2 * (1 - state.progress(config))))
