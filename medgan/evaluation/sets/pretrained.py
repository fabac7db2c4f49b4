"""Networks trained elsewhere, read from a file that the user has: MedicalNet, ImageNet planes."""

import hashlib
import pickle  # nosec B403 # for the name of an error
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from medgan.core.errors import ModelError

AIR = -0.99
_PLANES = (2, 3, 4)
_SLICES = 3
_EDGE = 224
"""Pixels of the photographs that such networks learned from."""
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STAGES = (64, 128, 256, 512)


class Weights(NamedTuple):
    """A state dict and the hash of the file that it came from."""

    tensors: dict[str, Tensor]
    digest: str


def read_weights(path: Path) -> Weights:
    """Tensors of a file of safetensors or of `torch.save`, without running anything in it.

    A state dict under `state_dict` is taken out, and `module.` before its keys is dropped.

    Raises:
        ModelError: E_MODEL where it cannot be read or holds no state dict.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            found: object = load(data)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is refused a moment later
                found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise _unfit(path, "cannot be read") from None
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, BadZipFile,
            KeyError, ValueError):  # fmt: skip
        raise _unfit(path, "holds more than tensors, or is damaged") from None
    if isinstance(found, Mapping) and "state_dict" in found:
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise _unfit(path, "holds no state dict")
    tensors = {str(k).removeprefix("module."): v for k, v in found.items()}
    if not all(isinstance(value, Tensor) for value in tensors.values()):
        raise _unfit(path, "holds no state dict")
    return Weights(tensors, hashlib.sha256(data).hexdigest())


class MedicalNet(nn.Module):
    """A 3D ResNet pretrained to segment 23 data sets; of depth 10 to 200, as the file says.

    It is MONAI's, which halves the grid in its last two stages where the authors' dilates, so
    that metrics differ from those of works that used the authors' code.

    Args:
        path: one of MedicalNet's `resnet_*.pth`.

    Raises:
        ModelError: E_MODEL.

    Reference: Chen et al. 2019, arXiv 1904.00625.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        weights = read_weights(path)
        self.digest = weights.digest
        self.net = _resnet(weights.tensors, 3, 1, path)

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B F"]:
        """Spatial mean of the last stage; intensities standardised in what is not air."""
        inside = (volume > AIR).to(volume)
        count = inside.sum(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1)
        mean = (volume * inside).sum(dim=(1, 2, 3, 4), keepdim=True) / count
        spread = (
            ((volume - mean) ** 2 * inside).sum(dim=(1, 2, 3, 4), keepdim=True) / count
        ).sqrt()
        return self.net((volume - mean) / spread.clamp(min=1e-3))


class Planes(nn.Module):
    """A 2D ResNet from photographs, shown the middle slices of three planes.

    Slices are enlarged to 224 pixels along their shorter side and shown as grey; features are
    averaged over the slices of a plane, and planes stand side by side.

    Args:
        path: a torchvision ResNet's state dict, such as `resnet50-*.pth`.

    Raises:
        ModelError: E_MODEL.

    Reference: He et al. 2015, arXiv 1512.03385; Guo et al. 2024, arXiv 2409.11169, section 4
        (synthetic scans evaluated in three planes).
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        weights = read_weights(path)
        self.digest = weights.digest
        self.net = _resnet(weights.tensors, 2, 3, path)
        self.register_buffer("mean", torch.tensor(_MEAN, device="cpu")[:, None, None])
        self.register_buffer("spread", torch.tensor(_SPREAD, device="cpu")[:, None, None])

    def forward(self, volume: Float[Tensor, "B 1 X Y Z"]) -> Float[Tensor, "B F"]:
        """Features of the sagittal, the coronal and the axial plane, in this order."""
        return torch.cat([self._plane(volume, axis) for axis in _PLANES], dim=1)

    def _plane(self, volume: Tensor, axis: int) -> Tensor:
        middle = volume.shape[axis] // 2
        features = []
        for at in range(middle - _SLICES // 2, middle + _SLICES // 2 + 1):
            grey = ((volume.select(axis, at) + 1) / 2).clamp(0, 1)
            size = [round(n * _EDGE / min(grey.shape[2:])) for n in grey.shape[2:]]
            grey = F.interpolate(grey, size=size, mode="bilinear")
            features.append(self.net((grey - self.mean) / self.spread))
        return torch.stack(features).mean(dim=0)


def _resnet(tensors: dict[str, Tensor], dimensions: int, channels: int, path: Path) -> nn.Module:
    """MONAI's ResNet with these weights: depth and kind of blocks are read off the keys.

    Raises:
        ModelError: E_MODEL where anything but the classifier is left over, missing or of
            another shape.
    """
    from monai.networks.nets.resnet import ResNet

    tensors = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
    found = [re.match(r"layer([1-4])\.(\d+)\.", name) for name in tensors]
    blocks = [{int(m[2]) for m in found if m and int(m[1]) == stage} for stage in range(1, 5)]
    if not all(blocks):
        raise _unfit(path, "is not a ResNet's")
    deep = "layer1.0.conv3.weight" in tensors
    net = ResNet(
        "bottleneck" if deep else "basic",
        [len(stage) for stage in blocks],
        list(_STAGES),
        spatial_dims=dimensions,
        n_input_channels=channels,
        conv1_t_stride=2,
        shortcut_type="B" if "layer2.0.downsample.0.weight" in tensors else "A",
        feed_forward=False,
        bias_downsample=False,
    )
    counters = {name for name in net.state_dict() if name.endswith("num_batches_tracked")}
    try:
        missing, left = net.load_state_dict(tensors, strict=False)
    except RuntimeError:
        raise _unfit(path, f"does not fit a {dimensions}D ResNet of {channels} channels") from None
    if set(missing) - counters or left:
        raise _unfit(path, "is another network's")
    return net.eval().requires_grad_(False)


def _unfit(path: Path, what: str) -> ModelError:
    return ModelError(
        "E_MODEL", path.name, f"the weights file {what}",
        "give evaluate.weights a MedicalNet file for medicalnet, a torchvision ResNet for planes",
    )  # fmt: skip
