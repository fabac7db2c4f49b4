"""What a step of a synthesis training draws at random, and shows."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from medgan.data.batches import Batch
from medgan.networks.augmentation import augment, draw_augmentation
from medgan.training.state import TrainingState

CONDITION_DROPOUT = 0.1
"""How often each condition of a scan is made unknown."""
WORD_DROPOUT = 0.1
"""How often each word of a caption is left out."""


def draw_latents(state: TrainingState, count: int) -> Float[Tensor, "B L"]:
    """Standard normal latents on the training's device."""
    return state.randomness.normal(count, state.networks.generator.latent).to(state.device)


def draw_noise(state: TrainingState, count: int) -> dict[str, Tensor]:
    """`white`, standard normal numbers for the noise of as many fakes, where it is a condition."""
    generator = state.networks.generator
    if generator.noise is None:
        return {}
    drawn = [generator.white_noise(1, one) for one in state.randomness.generators(count)]
    return {"white": torch.cat([white for white in drawn if white is not None])}


def fakes(state: TrainingState, part: Batch) -> Float[Tensor, "B C X Y Z"]:
    """Generated volumes of latents, conditions and noise.

    Where a batch has neighbours in time, each is followed by that of the same latent, as channels.

    Args:
        state: of the training.
        part: of a batch, with `latent` and what `draw_noise` gave.
    """
    white, times = part.tensors.get("white"), [part.condition]
    if "next_condition" in part.tensors:
        times.append(part["next_condition"])
    drawn = (state.networks.generator(part["latent"], time, white=white) for time in times)
    return torch.cat(list(drawn), dim=1)


def drop_conditions(
    state: TrainingState, condition: Float[Tensor, "B D"], columns: Sequence[int]
) -> Float[Tensor, "B D"]:
    """Makes a share of what is known unknown: conditions of a scan, and words of its caption.

    Args:
        state: of the training.
        condition: encoded conditions.
        columns: that each condition takes.
    """
    if not columns:
        return condition
    kept = state.randomness.uniform(len(condition), len(columns)) >= CONDITION_DROPOUT
    repeats = torch.tensor(columns, device="cpu")
    # The size is given, as a forecast of memory holds no values to add up.
    kept = kept.repeat_interleave(repeats, dim=1, output_size=sum(columns))
    condition = condition * kept.to(state.device)
    if state.networks.caption is None:
        return condition
    return state.networks.caption.without_words(condition, WORD_DROPOUT, state.randomness)


def with_captions(state: TrainingState, batch: Batch) -> Batch:
    """The batch with captions as features; and with those of other scans, `wrong`.

    The other scan may be one of another process: all of them read the captions of all.
    """
    caption, ranks = state.networks.caption, state.ranks
    if caption is None:
        return batch
    condition = ranks.gathered(batch.condition)
    seen = caption(condition)
    wrong, differ = caption.mismatched(condition, seen)
    own = {"condition": seen, "wrong": wrong, "differ": differ}
    return batch.having(**{name: ranks.own(rows) for name, rows in own.items()})


def half_mirrored(state: TrainingState, batch: Batch) -> Batch:
    """The batch, each volume with probability 0.5 mirrored from left to right, as its neighbour."""
    mirrored = (state.randomness.uniform(len(batch)) < 0.5).to(state.device)
    shown = {name: batch[name] for name in ("volume", "next") if name in batch.tensors}
    return batch.having(
        **{
            name: torch.where(mirrored[:, None, None, None, None], volume.flip(2), volume)
            for name, volume in shown.items()
        }
    )


def another_view(
    state: TrainingState, volume: Float[Tensor, "B C X Y Z"], probability: float
) -> Float[Tensor, "B C X Y Z"]:
    """What is to be restored: another view of each scan, upright and without noise.

    Args:
        state: of the training.
        volume: scans in [-1, 1].
        probability: of each change; 0 leaves them as they are.
    """
    if not probability:
        return volume
    drawn = draw_augmentation(
        volume, probability, state.randomness, flip=False, images=volume.shape[1]
    )
    return augment(volume, replace(drawn, spread=torch.zeros_like(drawn.spread))).clamp(-1, 1)
