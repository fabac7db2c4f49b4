"""Segmentation by a small U-Net, and its metrics."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from medgan.evaluation.probes.augmentation import Augmentation
from medgan.evaluation.probes.fit import fit

CHANNELS = (16, 32, 64, 128)


def train_segmenter(
    images: Float[Tensor, "N 1 X Y Z"],
    classes: Int[Tensor, "N X Y Z"],
    labels: int,
    steps: int,
    seed: int,
    batch: int = 4,
    bf16: bool = True,
    augment: Augmentation | None = None,
    network: nn.Module | None = None,
    among: Int[Tensor, " M"] | None = None,
) -> nn.Module:
    """A MONAI U-Net trained to segment, by Dice and cross entropy.

    Args:
        images: intensities in [-1, 1], on the device to use; axes divisible by 16.
        classes: 0 for background, 1 to `labels`.
        labels: how many there are.
        steps: training steps.
        seed: of weights, order and augmentation.
        batch: pairs a step.
        bf16: autocast of the network.
        augment: of every batch; None is `augment_pair`.
        network: to continue from, changed in place; None is a new one.
        among: numbers of volumes that a batch is drawn from, some more than once; None is each
            once.

    Returns:
        The network, in evaluation.
    """
    from monai.losses.dice import DiceCELoss

    device = images.device
    random = torch.Generator().manual_seed(seed)
    numbers = torch.arange(len(images), device="cpu") if among is None else among
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)

    def build() -> nn.Module:
        made = network or fresh_segmenter(min(images.shape[2:]), labels)
        return made.to(device, memory_format=torch.channels_last_3d)  # pyright: ignore

    def draw() -> tuple[Tensor, Tensor]:
        chosen = numbers[torch.randint(len(numbers), (batch,), generator=random)].to(device)
        image, truth = (augment or augment_pair)(images[chosen], classes[chosen], random)
        return image.contiguous(memory_format=torch.channels_last_3d), truth[:, None]

    return fit(build, draw, loss_of, steps, seed, device, weight_decay=1e-4, bf16=bf16)


def fresh_segmenter(edge: int, labels: int) -> nn.Module:
    """An untrained MONAI U-Net; its weights come from torch's global generator.

    Args:
        edge: voxels along the shortest axis.
        labels: how many there are.
    """
    from monai.networks.nets.unet import UNet

    # Halved to 4 voxels at most: at 2 along X, torch 2.13's bf16 weight gradient on CPUs reads
    # uninitialised memory.
    downsamplings = 3 if edge >= 32 else 2
    return UNet(
        3, 1, 1 + labels, CHANNELS[: downsamplings + 1], (2,) * downsamplings, num_res_units=1
    )


def augment_pair(
    image: Float[Tensor, "B 1 X Y Z"], classes: Int[Tensor, "B X Y Z"], random: torch.Generator
) -> tuple[Float[Tensor, "B 1 X Y Z"], Int[Tensor, "B X Y Z"]]:
    """Random rotation (10 degrees an axis), zoom (10%), contrast, brightness and a little noise.

    No flips: left and right may differ.

    Args:
        image: intensities in [-1, 1], padded with -1.
        classes: of the same voxels, padded with background.
        random: source of the randomness, on the CPU.
    """
    batch, device = len(image), image.device

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return torch.rand(*size, generator=random) * (high - low) + low

    turn = torch.deg2rad(uniform(-10.0, 10.0, batch, 3))
    zoom = uniform(0.9, 1.1, batch)
    scale, shift = uniform(0.9, 1.1, 2, batch).unbind()
    shift = (shift - 1).to(device)[:, None, None, None, None]
    noise = torch.randn(image.shape, generator=random).to(device)
    amount = uniform(0.0, 0.05, batch).to(device)[:, None, None, None, None]
    field = _field(turn, zoom, tuple(image.shape[2:])).to(device)
    moved = F.grid_sample(image.float() + 1, field, align_corners=False) - 1
    kept = F.grid_sample(classes[:, None].float(), field, mode="nearest", align_corners=False)
    moved = moved * scale.to(device)[:, None, None, None, None] + shift + amount * noise
    return moved.clamp(-1, 1), kept[:, 0].round().to(classes.dtype)


def _field(
    turn: Float[Tensor, "B 3"], zoom: Float[Tensor, " B"], shape: tuple[int, ...]
) -> Float[Tensor, "B X Y Z 3"]:
    """The sampling grid: a rotation in voxels, not in fractions of unequal edges."""
    matrix = torch.eye(3, device="cpu").expand(len(turn), 3, 3)
    for axis in range(3):
        first, second = (i for i in range(3) if i != axis)
        plane = torch.eye(3, device="cpu").repeat(len(turn), 1, 1)
        plane[:, first, first] = plane[:, second, second] = turn[:, axis].cos()
        plane[:, first, second] = -turn[:, axis].sin()
        plane[:, second, first] = turn[:, axis].sin()
        matrix = matrix @ plane
    # grid_sample counts axes backwards.
    size = torch.tensor(shape[::-1], dtype=torch.float32, device="cpu")
    matrix = zoom[:, None, None] * matrix * size[None, None] / size[None, :, None]
    affine = torch.cat([matrix, torch.zeros(len(turn), 3, 1, device="cpu")], dim=2)
    return F.affine_grid(affine, [len(turn), 1, *shape], align_corners=False)


@torch.no_grad()
def segment(
    network: nn.Module, images: Float[Tensor, "N 1 X Y Z"], batch: int = 16
) -> Int[Tensor, "N X Y Z"]:
    """The class with the largest logit at every voxel, in fp32."""
    return torch.cat([network(part).argmax(dim=1) for part in images.split(batch)])


def dice_by_label(
    predicted: Int[Tensor, "N X Y Z"], truth: Int[Tensor, "N X Y Z"], labels: int
) -> Float[Tensor, " K"]:
    """`dice_of_scans`, averaged over the volumes that have the label on either side.

    Returns:
        Shape (labels,), in [0, 1]; a label that no volume has is not a number.
    """
    return dice_of_scans(predicted, truth, labels).nanmean(dim=0)


def dice_of_scans(
    predicted: Int[Tensor, "N X Y Z"], truth: Int[Tensor, "N X Y Z"], labels: int
) -> Float[Tensor, "N K"]:
    """Dice of each label of each volume.

    Args:
        predicted: classes, 0 for background.
        truth: classes.
        labels: how many there are.

    Returns:
        Shape (N, labels), in [0, 1]; not a number where neither side has the label.

    Reference: Dice 1945, Measures of the amount of ecologic association between species.
    """
    values = []
    for label in range(1, labels + 1):
        mine, other = ((part == label).flatten(1) for part in (predicted, truth))
        both = (mine & other).sum(dim=1).double()
        values.append(2 * both / (mine.sum(dim=1) + other.sum(dim=1)))
    return torch.stack(values, dim=1)


def hausdorff95(
    predicted: Int[Tensor, "N X Y Z"],
    truth: Int[Tensor, "N X Y Z"],
    labels: int,
    spacing: tuple[float, float, float],
) -> Float[Tensor, "N K"]:
    """95th percentile of the distances between the surfaces of each label, by MONAI.

    Args:
        predicted: classes, 0 for background.
        truth: classes.
        labels: how many there are.
        spacing: voxel size in mm.

    Returns:
        Shape (N, labels), in mm: the diagonal of the grid where one side lacks the label, not a
        number where both do.

    Reference: Huttenlocher et al. 1993, Comparing images using the Hausdorff distance.
    """
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    edges = [n * size for n, size in zip(truth.shape[1:], spacing, strict=True)]
    distances = torch.full(
        (len(truth), labels), math.hypot(*edges), dtype=torch.float64, device="cpu"
    )
    for number in range(len(truth)):
        for label in range(1, labels + 1):
            mine, other = (part[number] == label for part in (predicted, truth))
            if mine.any() and other.any():
                distances[number, label - 1] = compute_hausdorff_distance(
                    mine[None, None].cpu(), other[None, None].cpu(), True,
                    percentile=95, spacing=list(spacing),
                ).item()  # fmt: skip
            elif not mine.any() and not other.any():
                distances[number, label - 1] = math.nan
    return distances
