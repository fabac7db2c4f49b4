"""Differences of a translated image from the real one, over a region of voxels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

SSIM_WINDOW = 7
"""Voxels an axis."""
Image = Float[np.ndarray, "X Y Z"]
Region = Bool[np.ndarray, "X Y Z"]


class TranslationMetrics(NamedTuple):
    """Metrics of one image.

    Attributes:
        mae: mean absolute error in the body, in the image's unit.
        mae_tumour: in the tumour; NaN without one.
        mae_outside: in the body outside of the tumour.
        bias_tumour: mean of predicted minus real values in the tumour; NaN without one.
        psnr: in the body, in dB.
        ssim: in the body, at most 1.
    """

    mae: float
    mae_tumour: float
    mae_outside: float
    bias_tumour: float
    psnr: float
    ssim: float

    @classmethod
    def of(
        cls,
        prediction: Image,
        target: Image,
        region: Region,
        tumour: Region | None,
        limits: tuple[float, float],
    ) -> "TranslationMetrics":
        """Compares an image with the real one.

        Args:
            prediction: in the unit of the target.
            target: the real image; of any value outside of the region, NaN as well.
            region: voxels of the body that were seen in all channels; not empty.
            tumour: any voxels; None where there is no mask.
            limits: lowest and highest value, for PSNR and SSIM.
        """
        inside = region & (False if tumour is None else tumour)
        return cls(
            mean_absolute_error(prediction, target, region),
            mean_absolute_error(prediction, target, inside),
            mean_absolute_error(prediction, target, region & ~inside),
            mean_error(prediction, target, inside),
            psnr(prediction, target, region, limits[1] - limits[0]),
            ssim(prediction, target, region, limits),
        )


def mean_absolute_error(prediction: Image, target: Image, region: Region) -> float:
    """Mean of |prediction - target| over a region, in the unit of both; NaN where it is empty."""
    if not region.any():
        return float("nan")
    return float(np.abs(prediction[region].astype(float) - target[region]).mean())


def mean_error(prediction: Image, target: Image, region: Region) -> float:
    """Mean of prediction - target over a region, in the unit of both; NaN where it is empty."""
    if not region.any():
        return float("nan")
    return float((prediction[region].astype(float) - target[region]).mean())


def psnr(prediction: Image, target: Image, region: Region, data_range: float) -> float:
    """Peak signal-to-noise ratio over a region in dB; infinite where both are equal.

    Args:
        prediction: in the unit of the target.
        target: the real image.
        region: voxels that count; not empty.
        data_range: highest minus lowest value that images of this kind have. It is not that of
            the one image, so that images can be compared.
    """
    squared = float(np.square(prediction[region].astype(float) - target[region]).mean())
    return float("inf") if squared == 0 else float(10 * np.log10(data_range**2 / squared))


def ssim(prediction: Image, target: Image, region: Region, limits: tuple[float, float]) -> float:
    """Mean structural similarity over a region, at most 1.

    Windows have 7 voxels an axis. Both images are clipped to the limits, and are at the lower one
    outside of the region: an edge of it that cuts anatomy is the same in both.

    Args:
        prediction: in the unit of the target, at least 7 voxels an axis.
        target: the real image.
        region: voxels that count; not empty.
        limits: lowest and highest value that images of this kind have.

    Reference: Wang et al. 2004, Image quality assessment: from error visibility to structural
        similarity.
    """
    from skimage.metrics import structural_similarity

    low, high = limits
    pair = [np.where(region, np.clip(image, low, high), low) for image in (prediction, target)]
    found = structural_similarity(
        pair[0].astype(float), pair[1].astype(float), win_size=SSIM_WINDOW,
        data_range=high - low, full=True,
    )  # fmt: skip
    return float(np.asarray(found[1])[region].mean())
