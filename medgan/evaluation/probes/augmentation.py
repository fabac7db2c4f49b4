"""Standard augmentation with MONAI, as the baseline of synthetic scans."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from monai.transforms.compose import Compose

Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Images, their classes and a random generator to augmented images and classes."""


def unchanged(
    image: Float[Tensor, "B 1 X Y Z"], classes: Int[Tensor, "B X Y Z"], random: torch.Generator
) -> tuple[Float[Tensor, "B 1 X Y Z"], Int[Tensor, "B X Y Z"]]:
    """No augmentation at all."""
    return image, classes


def classical(
    image: Float[Tensor, "B 1 X Y Z"], classes: Int[Tensor, "B X Y Z"], random: torch.Generator
) -> tuple[Float[Tensor, "B 1 X Y Z"], Int[Tensor, "B X Y Z"]]:
    """Standard spatial and intensity augmentation as in nnU-Net, with MONAI's transforms.

    Rotation (15 degrees an axis), zoom (15%) and translation (3 voxels); noise, blur, brightness,
    contrast, gamma and lower resolution, each of some volumes. No flips: left and right may differ.

    Args:
        image: intensities in [-1, 1], padded by repeating the border.
        classes: of the same voxels, padded with background.
        random: source of the randomness, on the CPU.

    Reference: Isensee et al. 2021, nnU-Net, supplementary note 2 (the set of transforms).
    """
    return _augmented(_chain(strong=False), image, classes, random)


def strong(
    image: Float[Tensor, "B 1 X Y Z"], classes: Int[Tensor, "B X Y Z"], random: torch.Generator
) -> tuple[Float[Tensor, "B 1 X Y Z"], Int[Tensor, "B X Y Z"]]:
    """As `classical`, with larger changes, and mirrored along every axis.

    For lesions, which lie any way round: rotation by up to 90 degrees about the third axis and 29
    about the others, zoom by 30%, translation by 4 voxels, and about twice the change of
    intensities, in more of the volumes.

    Args:
        image: as in `classical`.
        classes: likewise.
        random: likewise.
    """
    return _augmented(_chain(strong=True), image, classes, random)


def moved(
    image: Float[Tensor, "B 1 X Y Z"], classes: Int[Tensor, "B X Y Z"], random: torch.Generator
) -> tuple[Float[Tensor, "B 1 X Y Z"], Int[Tensor, "B X Y Z"]]:
    """Rotation, zoom and translation of `classical` alone.

    Args:
        image: as in `classical`.
        classes: of the same voxels, padded by repeating the border.
        random: likewise.
    """
    return _augmented(_moves(), image, classes, random)


def _augmented(
    chain: "Compose", image: Tensor, classes: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    from monai.data.meta_obj import get_track_meta, set_track_meta

    seeds = torch.randint(2**31, (len(image),), generator=random)
    moved, kept = [], []
    tracked = get_track_meta()
    set_track_meta(False)  # the same values in two thirds of the time
    try:
        for number, seed in enumerate(seeds.tolist()):
            chain.set_random_state(seed)
            label_map = classes[number][None].float().cpu()
            item: Any = chain({"image": image[number].float().cpu(), "classes": label_map})
            moved.append(item["image"])
            kept.append(item["classes"][0])
    finally:
        set_track_meta(tracked)
    device, kind = image.device, classes.dtype
    return (
        torch.stack(moved).clamp(-1, 1).to(device),
        torch.stack(kept).round().to(device, kind),
    )


@cache
def _moves() -> "Compose":
    from monai.transforms.compose import Compose
    from monai.transforms.spatial.dictionary import RandAffined
    from monai.transforms.utility.dictionary import ToTensord

    both = ("image", "classes")
    move = RandAffined(
        both, prob=0.9, rotate_range=(0.26,) * 3, translate_range=(3.0,) * 3,
        scale_range=(0.15,) * 3, mode=("bilinear", "nearest"), padding_mode="border",
    )  # fmt: skip
    return Compose([move, ToTensord(both, track_meta=False)])


@cache
def _chain(strong: bool) -> "Compose":
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import (
        RandAdjustContrastd,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )
    from monai.transforms.spatial.dictionary import (
        RandAffined,
        RandFlipd,
        RandSimulateLowResolutiond,
    )
    from monai.transforms.utility.dictionary import ToTensord

    def of(usual: Any, larger: Any) -> Any:  # noqa: ANN401 - of any argument of a transform
        return larger if strong else usual

    both, width = ("image", "classes"), (0.5, of(1.0, 1.2))
    return Compose(
        [
            *(RandFlipd(both, 0.5, axis) for axis in range(of(0, 3))),
            RandAffined(
                both, prob=0.9, rotate_range=of((0.26,) * 3, (0.5, 0.5, 1.57)),
                translate_range=(of(3.0, 4.0),) * 3, scale_range=(of(0.15, 0.3),) * 3,
                mode=("bilinear", "nearest"), padding_mode=("border", "zeros"),
            ),
            RandGaussianNoised("image", prob=0.3, std=of(0.1, 0.15)),
            RandGaussianSmoothd("image", width, width, width, prob=of(0.2, 0.3)),
            RandScaleIntensityd("image", factors=of(0.25, 0.4), prob=of(0.3, 0.5)),
            RandShiftIntensityd("image", offsets=of(0.1, 0.2), prob=of(0.3, 0.5)),
            RandAdjustContrastd("image", prob=of(0.3, 0.5), gamma=of((0.7, 1.5), (0.5, 2.0))),
            RandSimulateLowResolutiond("image", prob=of(0.2, 0.3), zoom_range=(0.5, 1.0)),
            ToTensord(both, track_meta=False),
        ]
    )  # fmt: skip
