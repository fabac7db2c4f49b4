"""Image channels come first, label channels after them."""

from jaxtyping import Float
from torch import Tensor


def split_channels(
    volume: Float[Tensor, "*B C X Y Z"], images: int
) -> tuple[Float[Tensor, "*B I X Y Z"], Float[Tensor, "*B D X Y Z"]]:
    """The image channels of one volume or many, and the label channels.

    Args:
        volume: image channels, then label channels.
        images: number of image channels.
    """
    return volume[..., :images, :, :, :], volume[..., images:, :, :, :]


def image_channels(volume: Float[Tensor, "*B C X Y Z"], images: int) -> Float[Tensor, "*B I X Y Z"]:
    """The image channels alone; arguments as for `split_channels`."""
    return split_channels(volume, images)[0]
