"""What a training refuses before it begins."""

import hashlib
import json
from pathlib import Path

from medgan.core.config import Config, Preprocessing, TrainConfig
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.core.ranks import Ranks
from medgan.data.manifest import Case

FEWEST_VALIDATION = 2
"""With one scan there is no kernel distance."""


def require_shares(config: TrainConfig, ranks: Ranks) -> None:
    """Refuses a batch that the processes cannot share equally, in micro-batches of one size.

    Raises:
        ConfigError: E_RANKS.
    """
    share = ranks.share_of(config.batch)
    if config.micro_batch and share % config.micro_batch:
        raise ConfigError(
            "E_RANKS", "train.micro_batch", f"{config.micro_batch} does not divide {share}, the "
            "volumes of a batch that each process takes", "set a divisor of it",
        )  # fmt: skip


def require_enough(training: int, validation: int, remedy: str) -> None:
    """Refuses too few scans.

    Raises:
        DataError: E_SPLIT.
    """
    if training < 2 or validation < FEWEST_VALIDATION:
        raise DataError(
            "E_SPLIT", f"{training} training and {validation} validation scans",
            f"at least 2 and {FEWEST_VALIDATION} are needed", remedy,
        )  # fmt: skip


def require_same_training(
    checkpoints: Path,
    cases: list[Case],
    preprocessing: Preprocessing,
    config: Config,
    begun_with: str,
) -> None:
    """Refuses to resume what had other scans, another grid, other networks or another start."""
    hashes = sorted((c.sha256, c.label_sha256 or "", *["wanted"] * c.wanted) for c in cases)
    parts = [hashes, preprocessing.model_dump(), config.model.model_dump(), config.train.task]
    if preprocessing.patches:
        parts.append(config.translate.model_dump(include={"source", "target", "noise"}))
    text = json.dumps([*parts, begun_with] if begun_with else parts)
    identity = hashlib.sha256(text.encode()).hexdigest()
    path = checkpoints / "trained_on.txt"
    begun = path.is_file() and any(checkpoints.glob("*.json"))
    if begun and path.read_text().strip() != identity:
        raise ConfigError(
            "E_RESUME", str(checkpoints), "belongs to other scans, another grid, other networks or "
            "another model to start from", "choose another folder, or start over with --replace",
        )  # fmt: skip
    write_atomic(path, identity)
