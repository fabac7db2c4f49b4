"""Teaching the localiser what does not belong, once generator and encoder are done."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medgan.anomaly.context import ScoringContext, ScoringNetworks, network_input
from medgan.anomaly.statistics import MapStatistics
from medgan.core.config import LocaliserConfig
from medgan.core.files import write_atomic
from medgan.core.threads import shared_cores
from medgan.data import lesions
from medgan.networks.device import uses_bf16
from medgan.networks.localiser import Localiser
from medgan.networks.losses import localisation_loss
from medgan.training.corruption import ALIGNED, SHAPES
from medgan.training.lesioned import HealthyScans, lesioned_scan
from medgan.training.moments import moments_from_tensors, moments_to_tensors
from medgan.training.patches import cut_patches, patches_of

log = logging.getLogger(__name__)
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


@dataclass
class LocaliserState:
    """The moving parts of the training of a localiser.

    Attributes:
        localiser: learns.
        optimizer: AdamW.
        volumes_seen: scans or patches shown, with lesions or without.
        seconds: trained so far, over all interruptions.
    """

    localiser: Localiser
    optimizer: torch.optim.AdamW
    volumes_seen: int = 0
    seconds: float = 0.0

    @classmethod
    def fresh(
        cls, localiser: Localiser, config: LocaliserConfig, device: torch.device
    ) -> "LocaliserState":
        """At the very start."""
        localiser.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        return cls(
            localiser,
            torch.optim.AdamW(localiser.parameters(), LEARNING_RATE, betas=(0.9, 0.99)),
        )

    def progress(self, config: LocaliserConfig) -> float:
        """Share that is done, by volumes or by minutes, whichever is further."""
        by_time = self.seconds / (60 * config.minutes) if config.minutes else 0.0
        return min(1.0, max(self.volumes_seen / config.volumes, by_time))


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
) -> int:
    """Trains on healthy scans with planted lesions, and on what the generator makes of them.

    What step n shows is a function of the seed and n alone, so that a training that was stopped
    goes on from its last checkpoint as if it never had.

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

    Returns:
        Scans or patches that it saw, those before an interruption included.
    """
    device = next(localiser.parameters()).device
    bf16 = uses_bf16("auto", device.type)
    fast = {
        name: network and _autocast(network, device, bf16)
        for name in ("encode", "generate", "restore")
        for network in (getattr(scoring_networks, name),)
    }
    scoring_networks = replace(scoring_networks, **fast, localise=None, inputs=localiser.inputs)
    extent = 1.0 if scoring_networks.healthy is None else ALIGNED
    patches = patches_of(volumes[0].shape[1:])
    state = LocaliserState.fresh(localiser, config, device)
    fingerprint = _fingerprint(scoring_networks, volumes[0], device)
    parts = [list(families), seed, config.model_dump(), len(volumes), fingerprint]
    identity = json.dumps([*parts, started_from] if started_from else parts)
    checkpoint = folder / CHECKPOINT
    _restore(state, checkpoint, identity)
    scans = HealthyScans(volumes, scoring_networks.healthy)
    saved = time.monotonic()
    while state.progress(config) < 1:
        started = time.monotonic()
        rng = np.random.default_rng([seed, state.volumes_seen])
        donor = _generated(scoring_networks, latent, rng, device)
        made = [
            lesioned_scan(scans, donor, families, rng, extent, min(patches, 2))
            for _ in range(BATCH // patches)
        ]
        corrupted, truth, mean, spread = (
            torch.from_numpy(np.stack(part)).to(device) for part in zip(*made, strict=True)
        )
        known = MapStatistics(mean, spread) if scans.bent else None
        with torch.no_grad():
            context = ScoringContext(corrupted, scoring_networks, known)
            shown = network_input(context, scoring_networks.inputs)
        if patches > 1:
            shown, truth = cut_patches(shown, truth, patches, rng)
        for group in state.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _share_of_rate(state, config)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = state.localiser(shown.contiguous(memory_format=torch.channels_last_3d))
        loss = localisation_loss(logits.float(), truth)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.localiser.parameters(), 1.0)
        state.optimizer.step()
        state.volumes_seen += BATCH
        state.seconds += time.monotonic() - started
        done = state.seconds if config.minutes else state.volumes_seen
        progress(int(done), int(60 * config.minutes) or config.volumes)
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            _save(state, checkpoint, identity)
            saved = time.monotonic()
            shared_cores().share()
    _save(state, checkpoint, identity)
    return state.volumes_seen


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


def _save(state: LocaliserState, path: Path, identity: str) -> None:
    flat = {f"weights.{k}": v for k, v in state.localiser.state_dict().items()}
    flat |= moments_to_tensors(state.optimizer, "moments")
    tensors = {key: value.detach().cpu().contiguous() for key, value in flat.items()}
    facts = {
        "volumes_seen": str(state.volumes_seen),
        "seconds": str(state.seconds),
        "identity": hashlib.sha256(identity.encode()).hexdigest(),
    }
    tensors["facts"] = torch.frombuffer(
        bytearray(json.dumps(facts).encode()), dtype=torch.uint8
    ).clone()
    write_atomic(path, save(tensors))


def _restore(state: LocaliserState, path: Path, identity: str) -> None:
    """Goes on from a checkpoint of the same state; any other is left alone and written over."""
    with suppress(OSError, SafetensorError, KeyError, ValueError):
        tensors = load(path.read_bytes())
        facts = json.loads(tensors.pop("facts").numpy().tobytes())
        if facts["identity"] != hashlib.sha256(identity.encode()).hexdigest():
            return
        weights = {
            k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")
        }
        state.localiser.load_state_dict(weights)
        moments_from_tensors(state.optimizer, "moments", tensors)
        state.volumes_seen, state.seconds = int(facts["volumes_seen"]), float(facts["seconds"])
        log.info("localiser: resumed at %d volumes", state.volumes_seen)
