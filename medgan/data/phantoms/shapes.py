"""Shapes as signed distances in mm, positive inside."""

from itertools import pairwise

import numpy as np

Number = int | float


def mirrored(points: np.ndarray) -> np.ndarray:
    """Points (3, N) with those of the left side taken to the right."""
    return np.stack([np.abs(points[0]), *points[1:]])


def ellipsoid(
    at: np.ndarray, centre: tuple[Number, ...], radii: tuple[Number | np.ndarray, ...]
) -> np.ndarray:
    """Distance to an ellipsoid, exact to first order at its surface."""
    near = far = np.float32(1e-6)
    for position, middle, radius in zip(at, centre, radii, strict=True):
        scaled = (position - np.float32(middle)) / np.float32(radius)
        near = near + scaled**2
        far = far + (scaled / np.float32(radius)) ** 2
    near = np.sqrt(near)
    return near * (1 - near) / np.sqrt(far)


def capsule(
    at: np.ndarray, nodes: tuple[tuple[Number, ...], ...], width: np.ndarray | float = 1.0
) -> np.ndarray:
    """Distance to a chain of rods through nodes of x, y, z and radius; `width` scales radii."""
    best = np.full(at.shape[1], -np.inf, np.float32)
    for start, end in pairwise(np.array(nodes, np.float32)):
        along, offset = end[:3] - start[:3], at - start[:3, None]
        part = np.clip(along @ offset / (along @ along), 0, 1)
        offset -= part * along[:, None]
        distance = np.sqrt((offset**2).sum(0))
        best = np.maximum(best, width * (start[3] + part * (end[3] - start[3])) - distance)
    return best


def join(a: np.ndarray, b: np.ndarray, blend: Number) -> np.ndarray:
    """Distance to the union of two bodies, rounded where they meet over `blend` mm."""
    gap = np.maximum(blend - np.abs(a - b), 0) / blend
    return np.maximum(a, b) + gap**2 * np.float32(blend / 4)
