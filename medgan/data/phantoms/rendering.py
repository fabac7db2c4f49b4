"""Scans of procedural heads: tissues painted one over the other on a grid, bias field, noise."""

from collections.abc import Iterator

import numpy as np

from medgan.core.errors import DataError
from medgan.data.phantoms.heads import TISSUES, Head, brain_layers, outer_layers

_EXTENT = np.array([(-80.0, 80.0), (-96.0, 96.0), (-78.0, 84.0)])
_MOST_BEND = 4.0
_LEAST_VIEW = 96.0


def render(
    head: Head, shape: tuple[int, int, int], spacing: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A scan of a head, centred in the field of view, with twofold supersampling.

    Args:
        head: its parameters; it is shrunk to fit the field of view.
        shape: voxels along R, A, S.
        spacing: voxel size in mm.
        rng: of the noise.

    Returns:
        Intensities, float32 of that shape, and values of `phantoms.LABELS`, uint8, 0 elsewhere.

    Raises:
        DataError: E_VIEW for a field of view under 96 mm.
    """
    view = np.array(shape) * spacing
    if view.min() < _LEAST_VIEW:
        what = f"a field of view of {view.min():g} mm holds no head"
        raise DataError("E_VIEW", "phantom", what, f"make shape * spacing {_LEAST_VIEW:g} mm")
    points, inside = _template_points(head, view, tuple(2 * n for n in shape), spacing / 2)
    value = np.zeros(points.shape[1], np.float32)
    share = np.zeros((4, len(value)), np.float32)
    cavity = _paint(outer_layers(head, points), head, spacing / 2, value, share)
    near = cavity > -spacing
    inner, inner_share = value[near], share[:, near]
    layers = brain_layers(head, cavity[near], points[:, near])
    _paint(layers, head, spacing / 2, inner, inner_share)
    value[near], share[:, near] = inner, inner_share
    image, *shares = (_coarse(part, inside) for part in (value, *share[1:]))
    label = np.stack([1 - sum(shares), *shares]).argmax(0).astype(np.uint8)
    bias = _field(head.bias, [coordinates(n, spacing) for n in shape])
    bias = 1 + 0.15 * bias / np.abs(bias).max()
    signal = head.gain * bias * image
    noise = rng.normal(0, head.gain / head.snr, (2, *shape))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32), label


def coordinates(count: int, step: float) -> np.ndarray:
    """Centres of samples along an axis in mm, around 0.

    Args:
        count: number of samples.
        step: mm from one to the next.
    """
    return (np.arange(count) - (count - 1) / 2) * step


def _paint(
    layers: Iterator[tuple[str, np.ndarray]],
    head: Head,
    blur: float,
    value: np.ndarray,
    share: np.ndarray,
) -> np.ndarray:
    """Paints over intensities (N,) and label shares (4, N); returns the last distance."""
    distance = value
    for tissue, distance in layers:
        hit = np.flatnonzero(distance > -blur / 2)
        membership = np.minimum(distance[hit] / np.float32(blur) + np.float32(0.5), 1)
        intensity, label = TISSUES[tissue]
        intensity = np.float32(intensity * head.contrast[tissue])
        value[hit] += membership * (intensity - value[hit])
        if label:
            share[:, hit] *= 1 - membership
            share[label, hit] += membership
    return distance


def _template_points(
    head: Head, view: np.ndarray, shape: tuple[int, ...], step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Template coordinates (3, N) of samples that may lie in the head, and where those are."""
    half = np.diff(_EXTENT).ravel() / 2
    margin = 0.03 * view + _MOST_BEND
    fit = min(1.0, float(np.min((view / 2 - margin) / (half * head.size + np.abs(head.shift)))))
    axes = [coordinates(n, step) / fit for n in shape]
    points = []
    inside = np.zeros(shape, np.float32)
    for axis, bend in enumerate(head.bend):
        line = (axes[axis] - head.shift[axis]) / head.size[axis] / half[axis]
        line = line.reshape([-1 if other == axis else 1 for other in range(3)]).astype(np.float32)
        inside += np.square(np.square(line))
        warp = np.clip(_field(bend, axes), -_MOST_BEND, _MOST_BEND)
        points.append(line * np.float32(half[axis]) + np.float32(_EXTENT[axis].mean()) + warp)
    inside = inside < 2.0
    x, y, z = (p[inside] for p in points)
    # A skull is narrower in front than behind.
    return np.stack([x * (1 + np.float32(0.0012) * y), y, z]), inside


def _field(coefficients: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    """A smooth field on a grid: cosines with wavelengths of 400 mm and its fractions."""
    for positions in axes:
        order = np.arange(coefficients.shape[0])
        basis = np.cos(np.pi * np.outer(positions / 200 + 0.5, order)).astype(np.float32)
        coefficients = np.tensordot(coefficients.astype(np.float32), basis, (0, 1))
    return coefficients


def _coarse(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean over blocks of 2 x 2 x 2 of values given where `inside`, 0 elsewhere."""
    fine = np.zeros(inside.shape, np.float32)
    fine[inside] = values
    x, y, z = (n // 2 for n in fine.shape)
    return fine.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))
