"""Random contrasts: scans as another sequence or another scanner might show them.

Either one curve changes the intensities of a scan; or another image is drawn, in which each tissue
has an intensity of its own. What a scanner adds is the same for both.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy import ndimage

from medgan.data.acquisition import Acquisition

PARTS = 12
"""Of a scan, by intensity and place."""
_PLACE = 0.5
"""Weight of the place, in halves of the shortest axis, beside the intensity in standard
deviations."""
_SAMPLED = 4000
"""Voxels that k-means learns from."""
_TEXTURE, _SPREAD = 1.0, 0.1
"""Largest factor on the texture of a scan, either way; largest standard deviation of noise in a
tissue."""
_MIXED = (0.0, 0.7)
"""Standard deviation, in voxels, of the blur that mixes tissues at their borders."""
_KNOTS, _CURVED = 6, 0.3
"""Values of a random curve; share of scans that are changed by one."""
_GAMMA = 1.2
"""Largest logarithm of a gamma, either way."""
_BIAS, _SHARP, _THICK, _NOISE = 0.5, 1.2, 6.0, 0.25
"""Largest spread of the logarithm of a bias field at its knots; largest blur and thickest slices in
voxels; largest standard deviation of noise in [-1, 1]."""


def tissues(image: Float[np.ndarray, "X Y Z"], seed: int) -> Int[np.ndarray, "X Y Z"]:
    """Parts of a scan that are alike in intensity and place, by k-means.

    Labels do not separate them: where the amygdala looks like the hippocampus, they share a part.
    With parts of their own for labels, drawn images taught less
    (`docs/explanation/utility.md`).

    Args:
        image: in [-1, 1].
        seed: of k-means.

    Returns:
        0 to `PARTS` - 1.
    """
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(seed)
    seen = ndimage.gaussian_filter(image, 0.5).ravel()
    places = np.indices(image.shape).reshape(3, -1).T / (min(image.shape) / 2)
    features = np.column_stack([seen / max(float(seen.std()), 1e-6), _PLACE * places])
    chosen = features[rng.permutation(len(features))[:_SAMPLED]]
    means = KMeans(PARTS, n_init="auto", random_state=seed).fit(chosen)  # k-means++: one start
    return np.asarray(means.predict(features)).reshape(image.shape)


def drawn(
    image: Float[np.ndarray, "X Y Z"], parts: Int[np.ndarray, "X Y Z"], rng: np.random.Generator
) -> Float[np.ndarray, "X Y Z"]:
    """An image in which each tissue has a random mean, and its texture at random strength.

    Args:
        image: a scan, of which the texture is taken.
        parts: its tissues, from 0.
        rng: source of all random numbers.

    Returns:
        In [-1, 1]; -1 and 1 are the percentiles 0.5 and 99.5.

    Reference: Billot et al. 2023, SynthSeg, Med Image Anal 86:102789, section 3.2, whose texture is
        noise alone.
    """
    count = int(parts.max()) + 1
    sizes = np.bincount(parts.ravel(), minlength=count).clip(min=1)
    centres = np.bincount(parts.ravel(), weights=image.ravel(), minlength=count) / sizes
    means, slopes = rng.uniform(-1, 1, count), rng.uniform(-_TEXTURE, _TEXTURE, count)
    seen = means[parts] + slopes[parts] * (image - centres[parts])
    seen += rng.uniform(0, _SPREAD, count)[parts] * rng.standard_normal(parts.shape)
    seen = ndimage.gaussian_filter(seen.astype(np.float32), rng.uniform(*_MIXED))
    low, high = np.percentile(seen, (0.5, 99.5))
    return (2 * (seen - low) / max(float(high - low), 1e-6) - 1).clip(-1, 1)


def recontrasted(
    image: Float[np.ndarray, "X Y Z"], rng: np.random.Generator, curves: bool = True
) -> Float[np.ndarray, "X Y Z"]:
    """A scan with its contrast inverted, or changed by a random curve, or as it is.

    Args:
        image: in [-1, 1].
        rng: source of all random numbers.
        curves: whether some scans are changed by a curve, which is linear between random
            values and may rise and fall. Of the others, every second is inverted.
    """
    if curves and rng.random() < _CURVED:
        return np.interp(image, np.linspace(-1, 1, _KNOTS), rng.uniform(-1, 1, _KNOTS))
    return -image if rng.random() < 0.5 else image


def scanned(
    image: Float[np.ndarray, "X Y Z"], rng: np.random.Generator
) -> Float[np.ndarray, "X Y Z"]:
    """An image with a gamma, a bias field, blur, thick slices and noise, each for every second.

    Args:
        image: in [-1, 1].
        rng: source of all random numbers.
    """
    if rng.random() < 0.5:
        image = raised(image, math.exp(rng.uniform(-_GAMMA, _GAMMA)))
    if rng.random() < 0.5:
        image = biased(image, rng.uniform(0, _BIAS), rng)
    if rng.random() < 0.5:
        image = ndimage.gaussian_filter(image, rng.uniform(0, _SHARP, 3))
    if rng.random() < 0.5:
        image = sliced(image, int(rng.integers(3)), rng.uniform(1.2, _THICK))
    if rng.random() < 0.5:
        image = image + rng.uniform(0, _NOISE) * rng.standard_normal(image.shape)
    return image.clip(-1, 1).astype(np.float32)


def raised(image: Float[np.ndarray, "X Y Z"], gamma: float) -> Float[np.ndarray, "X Y Z"]:
    """An image to the power of a gamma, in [0, 1]."""
    return 2 * ((image + 1) / 2).clip(0, 1) ** gamma - 1


def biased(
    image: Float[np.ndarray, "X Y Z"], spread: float, rng: np.random.Generator
) -> Float[np.ndarray, "X Y Z"]:
    """An image times a smooth field.

    Args:
        image: in [-1, 1].
        spread: of the field's logarithm at its four knots an axis.
        rng: source of the field.
    """
    knots = torch.from_numpy(spread * rng.standard_normal((1, 1, 4, 4, 4)))
    field = F.interpolate(knots, size=image.shape, mode="trilinear", align_corners=True)
    return (image + 1) * np.exp(field[0, 0].numpy()) - 1


def sliced(
    image: Float[np.ndarray, "X Y Z"], axis: int, thickness: float
) -> Float[np.ndarray, "X Y Z"]:
    """An image as slices of some thickness, in voxels, show it; linear between them."""
    acquisition = Acquisition.simulated(image.shape, axis, thickness, thickness)
    return acquisition.interpolate(acquisition.degrade(image), "linear")
