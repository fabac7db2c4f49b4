"""anomalib's PatchCore on the axial slices of a volume."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medgan.core.seeding import seeded

BACKBONE, LAYERS, NEIGHBOURS = "wide_resnet50_2", ("layer2", "layer3"), 9
SIZE = 256
"""Pixels an edge that an image is brought to. These are anomalib's defaults."""
MEMORY = 4096
"""Features that are kept at most. anomalib keeps a tenth: of 120 scans with 32 slices 390,000."""
_SLICES = 8
"""Training slices that they are drawn from."""
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TOGETHER = 8
"""Slices that go through the backbone at once."""


class PatchCore:
    """A memory of features of healthy slices; a patch is as anomalous as it is far from all.

    The backbone has random weights, as those of ImageNet would be downloaded. Features are drawn at
    random in place of a coreset, which takes hours to choose. Both decide what is found, not how
    long it takes.

    Attributes:
        memory: number of features that are kept.

    Args:
        volumes: healthy ones; slices are taken from all over them.
        size: pixels an edge that slices are resampled to; 0 leaves them as they are.
        seed: of the weights and of the features that are kept.
        device: where to compute.

    Raises:
        ImportError: anomalib is not installed.

    Reference: Roth et al. 2022, Towards total recall in industrial anomaly detection, arXiv
        2106.08265.
    """

    def __init__(
        self, volumes: Float[Tensor, "N 1 X Y Z"], size: int, seed: int, device: torch.device
    ) -> None:
        from anomalib.models.image.patchcore.torch_model import (  # pyright: ignore
            PatchcoreModel,
        )

        self._size = size
        with seeded(seed, device), torch.inference_mode():
            self._model = PatchcoreModel(list(LAYERS), BACKBONE, False, NEIGHBOURS).to(device)
            slices = as_slices(volumes)
            chosen = torch.linspace(0, len(slices) - 1, _SLICES, device="cpu").long().unique()
            self._model.train()
            self._model.feature_extractor.eval()  # statistics of batches are not to be used
            parts = slices[chosen].to(device).split(_TOGETHER)
            features = torch.cat([self._model(self._images(part)) for part in parts])
            random = torch.Generator().manual_seed(seed)
            kept = torch.randperm(len(features), generator=random, device="cpu")[:MEMORY]
            self._model.embedding_store.clear()
            self._model.memory_bank = features[kept]
        self._model.eval()
        self.memory = len(kept)

    @torch.inference_mode()
    def map(self, volumes: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B 1 X Y Z"]:
        """The distance of each patch, slice by slice, as a map of the volume."""
        maps = []
        for volume in volumes.split(1):
            parts = []
            for part in as_slices(volume).split(_TOGETHER):
                found = self._model(self._images(part)).anomaly_map
                parts.append(F.interpolate(found, size=part.shape[2:], mode="bilinear"))
            maps.append(torch.cat(parts).permute(1, 2, 3, 0))
        return torch.stack(maps)

    def _images(self, slices: Float[Tensor, "N 1 X Y"]) -> Float[Tensor, "N 3 H W"]:
        """As the backbone takes them: three channels, scaled as for ImageNet."""
        if self._size:
            slices = F.interpolate(
                slices, size=(self._size, self._size), mode="bilinear", antialias=True
            )
        mean, spread = (slices.new_tensor(one)[:, None, None] for one in (_MEAN, _SPREAD))
        return ((slices + 1) / 2 - mean) / spread


def as_slices(volumes: Float[Tensor, "N 1 X Y Z"]) -> Float[Tensor, "M 1 X Y"]:
    """All axial slices of volumes."""
    return volumes.movedim(4, 1).flatten(0, 1)
