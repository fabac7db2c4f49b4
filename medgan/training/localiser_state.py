"""The moving parts of a localiser's training, and its checkpoint."""

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from medgan.core.config import LocaliserConfig
from medgan.core.files import write_atomic
from medgan.networks.localiser import Localiser
from medgan.training.moments import moments_from_tensors, moments_to_tensors

log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size
"""Bytes of the hash before the tensors."""


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
    def fresh(cls, localiser: Localiser, device: torch.device) -> "LocaliserState":
        """At the very start. The learning rate comes with each step."""
        localiser.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore
        return cls(localiser, torch.optim.AdamW(localiser.parameters(), betas=(0.9, 0.99)))

    def progress(self, config: LocaliserConfig) -> float:
        """Share that is done, by volumes or by minutes, whichever is further."""
        by_time = self.seconds / (60 * config.minutes) if config.minutes else 0.0
        return min(1.0, max(self.volumes_seen / config.volumes, by_time))


def save_state(state: LocaliserState, path: Path, identity: str) -> None:
    """Writes a checkpoint.

    Args:
        state: to write.
        path: of the file.
        identity: what the training depends on; another one does not go on from it.
    """
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
    data = save(tensors)
    write_atomic(path, hashlib.sha256(data).digest() + data)


def restore_state(state: LocaliserState, path: Path, identity: str) -> None:
    """Goes on from a checkpoint of the same state; any other is left alone and written over."""
    with suppress(OSError, SafetensorError, KeyError, ValueError):
        stored = path.read_bytes()
        digest, data = stored[:_DIGEST], stored[_DIGEST:]
        if digest != hashlib.sha256(data).digest():
            log.warning(
                "localiser: its checkpoint is damaged or of an older version; starting over"
            )
            return
        tensors = load(data)
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
