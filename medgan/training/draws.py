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
    shape = (count, state.networks.generator.latent)
    return torch.randn(shape, generator=state.random).to(state.device)


def draw_noise(state: TrainingState, count: int) -> dict[str, Tensor]:
    """`white`, standard normal numbers for the noise of as many fakes, where it is a condition."""
    white = state.networks.generator.white_noise(count, state.random)
    return {} if white is None else {"white": white}


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
    kept = torch.rand(len(condition), len(columns), generator=state.random) >= CONDITION_DROPOUT
    repeats = torch.tensor(columns, device="cpu")
    # The size is given, as a forecast of memory holds no values to add up.
    kept = kept.repeat_interleave(repeats, dim=1, output_size=sum(columns))
    condition = condition * kept.to(state.device)
    if state.networks.caption is None:
        return condition
    return state.networks.caption.without_words(condition, WORD_DROPOUT, state.random)


def with_captions(state: TrainingState, batch: Batch) -> Batch:
    """The batch with captions as features; and with those of other scans, `wrong`."""
    caption, condition = state.networks.caption, batch.condition
    if caption is None:
        return batch
    seen = caption(condition)
    wrong, differ = caption.mismatched(condition, seen)
    return batch.having(condition=seen, wrong=wrong, differ=differ)


def half_mirrored(state: TrainingState, batch: Batch) -> Batch:
    """The batch, each volume with probability 0.5 mirrored from left to right, as its neighbour."""
    mirrored = (torch.rand(len(batch), generator=state.random) < 0.5).to(state.device)
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
    drawn = draw_augmentation(volume, probability, state.random, flip=False, images=volume.shape[1])
    return augment(volume, replace(drawn, spread=torch.zeros_like(drawn.spread))).clamp(-1, 1)
