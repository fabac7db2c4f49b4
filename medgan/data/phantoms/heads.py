"""The anatomy of procedural T1-like heads: their random parameters and their tissues.

Anatomy is defined in template coordinates in mm: x to the right, y anterior, z superior, the
origin near the anterior commissure. Each surface is a signed distance in mm, positive inside.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medgan.data.phantoms.shapes import capsule, ellipsoid, join, mirrored

# Relative T1 intensity (white matter 1) and label of each tissue.
TISSUES: dict[str, tuple[float, int]] = {
    "air": (0.0, 0),
    "fat": (1.2, 0),
    "muscle": (0.5, 0),
    "eye": (0.22, 0),
    "bone": (0.1, 0),
    "fluid": (0.2, 0),
    "ventricle": (0.2, 1),
    "cortex": (0.62, 2),
    "nucleus": (0.72, 2),
    "white": (1.0, 3),
}
# Lateral ventricle: 0.75 x, y, z and radius in mm along each branch of the right side.
_HORNS = (
    (
        (7, 34, 5, 3.5),
        (8, 22, 12, 5.5),
        (10, -8, 19, 5.0),
        (17, -36, 9, 5.2),
        (18, -62, 4, 2.8),
    ),
    ((17, -36, 9, 4.5), (25, -12, -16, 2.2)),
)
_CEREBELLUM = ((22, -47, -37), (30, 32, 22))
_STEM = ((0, -16, -8, 14), (0, -25, -34, 14), (0, -32, -52, 8))
_MIDDLE = np.array([0, 0, 8], np.float32)
_FOLDS = 20
_FOLD_WAVELENGTH = 36.0


@dataclass(frozen=True)
class Head:
    """The random parameters of one head.

    Attributes:
        age: years.
        size: shape (3,), factors on the template along x, y, z.
        shift: shape (3,), mm.
        bend: shape (3, 4, 4, 4), cosine coefficients of the deformation in mm.
        fold_waves: shape (_FOLDS, 3), rad/mm.
        fold_phases: shape (2, _FOLDS), rad, of the left and the right hemisphere.
        fold_depth, sulcus, rim, cortex, scalp, skull: mm; `sulcus` is half a width.
        ventricle: shape (2,), factors on the radius of the left and the right ventricle.
        contrast: factor on the intensity of each tissue.
        bias: shape (4, 4, 4), cosine coefficients, scaled to 15 percent at most.
        gain: intensity of white matter.
        snr: white matter over the standard deviation of the noise.
    """

    age: float
    size: np.ndarray
    shift: np.ndarray
    bend: np.ndarray
    fold_waves: np.ndarray
    fold_phases: np.ndarray
    fold_depth: float
    sulcus: float
    rim: float
    cortex: float
    scalp: float
    skull: float
    ventricle: np.ndarray
    contrast: dict[str, float]
    bias: np.ndarray
    gain: float
    snr: float


def sample_head(rng: np.random.Generator, age: float) -> Head:
    """One head of the given age in years: the older, the wider its ventricles and sulci."""
    years = (age - 20) / 65
    # All subjects share the main folds, with small changes of phase on each side.
    template = np.random.default_rng(20)
    directions = template.normal(size=(_FOLDS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    phases = template.uniform(0, 2 * np.pi, _FOLDS)
    phases = phases + rng.normal(0, 0.45, _FOLDS) + rng.normal(0, 0.2, (2, _FOLDS))
    atrophy = float(np.clip(years + rng.normal(0, 0.15), 0, 1.2))
    width = (0.9 + 0.5 * years) * np.exp(rng.normal(0, 0.08))
    return Head(
        age=age,
        size=rng.normal(1, 0.025) * rng.normal(1, 0.02, 3),
        shift=rng.uniform(-4, 4, 3),
        bend=rng.normal(0, 2.0, (3, 4, 4, 4)) * _damping(),
        fold_waves=2 * np.pi / _FOLD_WAVELENGTH * directions,
        fold_phases=phases,
        fold_depth=rng.uniform(15, 19),
        sulcus=0.4 + 1.2 * atrophy,
        rim=1.5 + 2.0 * atrophy,
        cortex=rng.normal(4.2, 0.15) - 0.4 * years,
        scalp=rng.uniform(4, 7),
        skull=rng.uniform(5.5, 7),
        ventricle=width * np.exp(rng.normal(0, 0.03, 2)),
        contrast={name: float(rng.normal(1, 0.03)) for name in TISSUES},
        bias=rng.normal(0, 1, (4, 4, 4)) * _damping(),
        gain=float(np.exp(rng.uniform(np.log(200), np.log(2000)))),
        snr=rng.uniform(25, 40),
    )


def outer_layers(head: Head, points: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Tissues from the skin to the cavity of the skull, with their distances in mm."""
    at = mirrored(points)
    hemisphere = ellipsoid(at, (0, 0, 8), (67, 84, np.where(at[2] > 8, 62, 37)))
    cavity = join(hemisphere, ellipsoid(at, (38, -2, -24), (25, 40, 19)), 12)
    cavity = join(cavity, ellipsoid(at, *_CEREBELLUM) + 3, 8)
    cavity = join(cavity, capsule(at, _STEM) + 3, 8)
    bone = cavity + head.skull
    skin = join(bone + head.scalp, ellipsoid(at, (0, 0, -31), (57, 84, 42)), 12)
    yield "fat", skin
    yield "muscle", np.minimum(skin - head.scalp, -3 - bone)
    yield "fat", np.minimum(ellipsoid(at, (31, 60, -33), (17, 20, 15)), skin - 2)
    yield "eye", ellipsoid(at, (31, 67, -33), (12, 12, 12))
    yield "air", np.minimum(ellipsoid(at, (0, 60, -44), (11, 20, 18)), skin - 6)
    yield "bone", bone
    yield "fluid", cavity


def brain_layers(
    head: Head, cavity: np.ndarray, points: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Tissues in the cavity of the skull, each painted over the last, with their distances."""
    at = mirrored(points)
    cerebellum = ellipsoid(at, *_CEREBELLUM)
    hull = np.minimum(cavity - head.rim, -cerebellum - 2)
    ventricles = _ventricles(head, points)
    # Around the ventricles stays a wall that no sulcus enters.
    pia = np.maximum(_pia(head, points, hull), np.minimum(ventricles + 5, hull))
    yield "cortex", pia
    yield "white", pia - head.cortex
    leaves = 3 * np.cos(0.6 * (at[2] + 0.5 * at[1]))
    yield "cortex", cerebellum - 0.5 * head.rim
    yield "white", cerebellum - 11 + leaves
    yield "white", capsule(at, _STEM)
    yield "nucleus", ellipsoid(at, (11, -15, 4), (9, 15, 9))
    yield "nucleus", ellipsoid(at, (25, 3, 2), (6.5, 17, 10))
    yield "nucleus", ellipsoid(at, (17, 20, 8), (5, 11, 8))
    yield "ventricle", ventricles


def _pia(head: Head, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Distance to the surface of the cerebrum with its sulci; `depth` is that to its hull."""
    x, y, z = points
    at = mirrored(points)
    radial = np.sqrt((x / 67) ** 2 + (y / 84) ** 2 + ((z - 8) / 55) ** 2) + np.float32(0.05)
    # Waves on nearly the direction alone make sulci perpendicular to the hull.
    stretch = radial**-0.8
    angle = head.fold_waves.astype(np.float32) @ ((at - _MIDDLE[:, None]) * stretch)
    angle += head.fold_phases.T.astype(np.float32)[:, (x > 0).astype(int)]
    wave = np.cos(angle, out=angle).sum(0) * np.float32(np.sqrt(2 / _FOLDS))
    sheet = np.abs(wave) * np.float32(_FOLD_WAVELENGTH / 2 / np.pi) / stretch
    # Sulci of the base are shallow, or they would cut the temporal lobes to pieces.
    deep = head.fold_depth * np.clip((z + 45) / 45, 0.4, 1)
    sulcus = np.hypot(sheet, np.maximum(depth - deep, 0)) - head.sulcus
    # The fissure between the hemispheres ends at the callosum, the lateral one at the insula.
    bridge = ellipsoid(at, (0, -3, 5), (1e6, 43, 28))
    fissure = np.hypot(x, np.maximum(bridge, 0)) - 0.8 - 0.7 * head.sulcus
    beyond = np.maximum(np.maximum(np.abs(y - 2) - 26, 38 - at[0]), 0)
    lateral = np.hypot(z + 3 + 0.3 * y, beyond) - 0.8 - head.sulcus
    return np.minimum(np.minimum(depth, sulcus), np.minimum(fissure, lateral))


def _ventricles(head: Head, points: np.ndarray) -> np.ndarray:
    """Distance to the lateral, third and fourth ventricles."""
    at = mirrored(points)
    width = np.where(points[0] > 0, head.ventricle[1], head.ventricle[0]).astype(np.float32)
    # In cross-section broader than high; wider ones grow away from the midline.
    outwards = np.stack([0.75 * at[0] - 3 * (width - 1), *at[1:]])
    lateral = np.maximum(*(capsule(outwards, branch, width) for branch in _HORNS))
    lateral = np.minimum(lateral, at[0] - 1)
    mean = float(head.ventricle.mean())
    third = ellipsoid(at, (0, -6, -1), (2.2 * mean**2, 13, 9))
    fourth = ellipsoid(at, (0, -37, -34), (5 * mean, 4 * mean, 7))
    return np.maximum(lateral, np.maximum(third, fourth))


def _damping() -> np.ndarray:
    """Weights of cosine coefficients (4, 4, 4): the finer, the weaker; none for the mean."""
    squared = (np.indices((4, 4, 4)) ** 2).sum(0)
    return np.where(squared == 0, 0, 1 / (1 + squared))
