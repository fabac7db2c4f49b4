"""Label maps as soft channels that a generator can draw, and back.

Each label has a codeword, the channels that are on; background has none (see `codebook`). Channels
are the codewords at every voxel, smoothed; a map is read back as the nearest codeword.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy import ndimage
from torch import Tensor

from medgan.data.codebook import ONE_HOT, codewords

SMALLEST_COMPONENT = 0.05
"""Default of `remove_specks`: in 200 real hippocampus label maps the largest loose part of a label
had 0.2% of its largest component."""


def encode_labels(
    label_map: Int[Tensor, "*B X Y Z"], values: tuple[int, ...]
) -> Float[Tensor, "*B D X Y Z"]:
    """Label map to soft channels in [-1, 1], -1 all through the background.

    Edges are smoothed by [1 2 1] / 4 along each axis, because a generator cannot and need not make
    perfect steps, and a discriminator would judge by nothing else.

    Args:
        label_map: label values, one map or a batch; values that are not learned are background.
        values: label values that are learned.
    """
    return as_channels(torch.from_numpy(soft_codes(label_map.numpy(), values)))


def as_channels(soft: UInt8[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """What `soft_codes` gives, as channels in [-1, 1]."""
    return soft.float() / 32 - 1


def soft_codes(
    label_map: Int[np.ndarray, "*B X Y Z"], values: tuple[int, ...]
) -> UInt8[np.ndarray, "*B D X Y Z"]:
    """As `encode_labels`, in 64ths from 0 to 64: exact, a quarter of the memory, and without torch.

    Args:
        label_map: label values.
        values: label values that are learned.
    """
    bits = np.take(codewords(len(values)).T, _codeword_numbers(label_map, values), axis=1)
    soft = np.moveaxis(bits, 0, -4)
    for axis in (-3, -2, -1):
        smooth = soft + soft
        new, old = smooth.swapaxes(0, axis), soft.swapaxes(0, axis)
        new[1:] += old[:-1]
        new[:-1] += old[1:]
        new[0] += old[0]
        new[-1] += old[-1]
        soft = smooth
    return np.ascontiguousarray(soft)


def decode_labels(
    channels: Float[Tensor, "D X Y Z"], values: tuple[int, ...], offset: float = 0.0
) -> Int[Tensor, "X Y Z"]:
    """Soft label channels back to a label map: the nearest word, background among them.

    Args:
        channels: soft label channels in [-1, 1].
        values: label values that are learned.
        offset: taken from the background's share, from `volume_keeping_offset`. From -0.1 to 0.2
            no third label appears between two, which tests hold for up to 32 labels.
    """
    winner, share, background = _strongest(channels, len(values))
    label_map = torch.tensor(values, device=channels.device)[winner]
    return torch.where(share > background - offset, label_map, 0)


def volume_keeping_offset(label_maps: Sequence[Tensor], values: tuple[int, ...]) -> float:
    """The offset with which encoding and decoding real label maps keeps their volume.

    Smoothing takes from convex shapes what it gives to concave ones, and labelled structures are
    mostly convex: read back with an offset of 0, thin ones shrink.

    Args:
        label_maps: real ones, (X, Y, Z) each, on the model's grid.
        values: label values that are learned.
    """
    shares = [
        _strongest(encode_labels(label_map, values), len(values))[1:] for label_map in label_maps
    ]
    wanted = sum(
        int(torch.isin(m, torch.tensor(values, device=m.device)).sum()) for m in label_maps
    )

    def missing(offset: float) -> int:
        return wanted - sum(int((share > ground - offset).sum()) for share, ground in shares)

    if missing(0.0) == 0:
        return 0.0
    low, high = (0.0, 0.5) if missing(0.0) > 0 else (-0.5, 0.0)
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) > 0 else (low, middle)
    return (low + high) / 2


def largest_components(
    label_map: Int[np.ndarray, "X Y Z"],
    labels: tuple[int, ...],
    share: float = SMALLEST_COMPONENT,
) -> Int[np.ndarray, "X Y Z"]:
    """The label map without specks: each becomes what most of the voxels around it are.

    A component hangs together over faces, edges and corners. Afterwards no component of a label
    has less than `share` of the voxels of its largest one.

    Args:
        label_map: label values.
        labels: values to consider.
        share: of a label's largest component, from 0 (which removes nothing) to 1.
    """
    cleaned = label_map.copy()
    # What a speck becomes may make another label's largest component larger. A round that changes
    # anything leaves fewer components, so this ends.
    while any([_fill_specks(cleaned, label, share) for label in labels]):
        pass
    return cleaned


_TOUCHING = np.ones((3, 3, 3), bool)


def _fill_specks(label_map: np.ndarray, label: int, share: float) -> bool:
    """Fills one label's specks in place; says whether there were any."""
    parts, count = ndimage.label(label_map == label, _TOUCHING)  # pyright: ignore
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    if count < 2 or sizes.min() >= share * sizes.max():
        return False
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if sizes[number - 1] < share * sizes.max():
            room = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
            speck = parts[room] == number
            rim = ndimage.binary_dilation(speck, _TOUCHING) & ~speck
            found, voxels = np.unique(label_map[room][rim], return_counts=True)
            label_map[room][speck] = found[voxels.argmax()]
    return True


def _codeword_numbers(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """Number of each voxel's codeword: 1 for the first value, 0 for values not learned."""
    if not values:
        return np.zeros(label_map.shape, np.intp)
    order = np.argsort(values)
    ranked = np.array(values)[order]
    rank = np.searchsorted(ranked, label_map).clip(max=len(values) - 1)
    return np.where(ranked[rank] == label_map, order[rank] + 1, 0)


def _strongest(
    channels: Float[Tensor, "D X Y Z"], count: int
) -> tuple[Int[Tensor, "X Y Z"], Float[Tensor, "X Y Z"], Float[Tensor, "X Y Z"]]:
    """The strongest label, counted from 0, its share and the background's."""
    share = (channels + 1) / 2
    if count <= ONE_HOT:
        strongest, winner = share.max(dim=0)
        return winner, strongest, 1 - share.sum(dim=0)
    on = torch.from_numpy(codewords(count)[1:].astype(np.float32)).to(channels.device)
    winner = torch.einsum("kd,dxyz->kxyz", 2 * on - 1, channels).max(dim=0).indices
    # The winner is nearer than the background where its channels are on by more than a half.
    mean = torch.einsum("xyzd,dxyz->xyz", on[winner], share) / on.sum(dim=1)[winner]
    return winner, mean, 1 - mean
