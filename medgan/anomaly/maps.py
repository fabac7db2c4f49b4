"""Score maps as pure functions: one value a voxel, higher for more unusual."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def residual_map(
    volume: Float[Tensor, "B C X Y Z"], recon: Float[Tensor, "B C X Y Z"]
) -> Float[Tensor, "B 1 X Y Z"]:
    """Absolute difference between a volume and its reconstruction, the mean over channels.

    Reference: Schlegl et al. 2019 (f-AnoGAN), eq. 4, per voxel.
    """
    return (volume - recon).abs().mean(dim=1, keepdim=True)


def feature_map(
    volume_features: list[Tensor], recon_features: list[Tensor], shape: tuple[int, int, int]
) -> Float[Tensor, "B 1 X Y Z"]:
    """Distance between the discriminator's features of a volume and of its reconstruction.

    At each depth, the root mean square over channels, each channel first divided by its mean
    magnitude in both; up-sampled to the volume's grid and averaged over depths.

    Args:
        volume_features: one (B, C, x, y, z) a depth.
        recon_features: likewise.
        shape: (X, Y, Z) of the volume.

    Reference: Schlegl et al. 2019 (f-AnoGAN), the second term of eq. 6, per voxel and at
        every depth.
    """
    maps = []
    for a, b in zip(volume_features, recon_features, strict=True):
        a, b = a.float(), b.float()
        scale = (a.abs() + b.abs()).mean(dim=(2, 3, 4), keepdim=True) / 2 + 1e-6
        distance = ((a - b) / scale).square().mean(dim=1, keepdim=True).sqrt()
        maps.append(F.interpolate(distance, size=shape, mode="trilinear"))
    return torch.stack(maps).mean(dim=0)


def similarity_map(
    volume: Float[Tensor, "B C X Y Z"], recon: Float[Tensor, "B C X Y Z"], window: int = 7
) -> Float[Tensor, "B 1 X Y Z"]:
    """One minus the local structural similarity, the mean over channels, 0 to 2.

    Args:
        volume: in [-1, 1].
        recon: in [-1, 1].
        window: edge length of the cubes that are compared; it must fit into the volume.

    Reference: Wang et al. 2004, IEEE TIP 13(4), eq. 13, with means over cubes.
    """
    from monai.metrics.regression import compute_ssim_and_cs

    # In [0, 1]: the formula compares means by their ratio, which has no meaning around 0.
    positive, also = ((v.float() + 1) / 2 for v in (volume, recon))
    similarity, _ = compute_ssim_and_cs(
        positive, also, 3, (window,) * 3, (1.5,) * 3, 1.0, "uniform"
    )
    similarity = similarity.mean(dim=1, keepdim=True)
    return F.pad(1 - similarity, (window // 2,) * 6, mode="replicate")


def top_mean(standardised: Float[Tensor, "B 1 X Y Z"], top_fraction: float) -> Float[Tensor, " B"]:
    """Mean of the highest voxels of each map.

    Args:
        standardised: score maps in healthy standard deviations.
        top_fraction: share of the voxels, in (0, 1].
    """
    flat = standardised.flatten(1)
    count = max(1, round(top_fraction * flat.shape[1]))
    return flat.topk(count, dim=1).values.mean(dim=1)
