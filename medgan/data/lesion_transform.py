"""Lesions as a MONAI transform, drawn anew each time that a scan is trained on."""

import copy
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, RandomizableTransform

from medgan.core.config.data import Intensity
from medgan.core.errors import DataError
from medgan.data.lesion_drawing import LesionDrawing
from medgan.data.lesion_scale import lesion_scale


class RandLesiond(RandomizableTransform, MapTransform):
    """Draws a lesion into some of the scans of a training, and into their label maps.

    Scans are channel first, axes Right, Anterior, Superior, as `Orientationd` leaves them. Spacing
    comes from a `MetaTensor`, otherwise it is `spacing`. All channels get the same lesion.
    Where no lesion fits, the scan stays as it is. `set_random_state` makes it repeatable.

    Args:
        keys: of the images.
        label_key: of the label map, on the same grid; made where there is none.
        drawing: what is drawn.
        prob: share of the scans that get a lesion.
        value: of the lesion in the label map.
        intensity: mri scales by the scan's percentiles, which also suits scans that are normalised
            already; ct takes HU.
        spacing: in mm, of scans that do not say.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: Hashable,
        drawing: LesionDrawing,
        prob: float = 0.5,
        value: int = 1,
        intensity: Intensity = "mri",
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.label_key, self.drawing, self.value = label_key, drawing, value
        self.intensity: Intensity = intensity
        self.spacing = spacing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with a lesion, or as it was."""
        item = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return item
        rng = np.random.default_rng(int(self.R.randint(2**31)))
        mask = None
        for key in self.key_iterator(item):
            image, given = item[key], mask
            channels = _array(image).astype(np.float32)
            drawn = []
            for channel in channels:
                scale = lesion_scale(channel, self.intensity)
                volume = scale(torch.from_numpy(channel)).numpy()
                try:
                    lesion = self.drawing(
                        volume, self._spacing_of(image), copy.deepcopy(rng), given
                    )
                except DataError:
                    return dict(data)
                mask = given = lesion.mask
                drawn.append(lesion.onto(volume, channel, scale))
            item[key] = _like(image, np.stack(drawn))
        if mask is not None:
            item[self.label_key] = self._labelled(item, mask)
        return item

    def _spacing_of(self, image: Any) -> tuple[float, ...]:  # noqa: ANN401 - array or tensor
        affine = getattr(image, "affine", None)
        if affine is None:
            return self.spacing
        return tuple(np.linalg.norm(np.asarray(affine)[:3, :3], axis=0).tolist())

    def _labelled(self, item: dict[Hashable, Any], mask: np.ndarray) -> Any:  # noqa: ANN401
        if self.label_key not in item:
            first = item[next(iter(self.key_iterator(item)))]
            return _like(first, (self.value * mask[None]).astype(np.float32))
        label = item[self.label_key]
        values = _array(label).copy()
        values[:, mask] = self.value
        return _like(label, values)


def _array(image: Any) -> np.ndarray:  # noqa: ANN401 - array or tensor
    return np.asarray(image.cpu() if isinstance(image, torch.Tensor) else image)


def _like(image: Any, data: np.ndarray) -> Any:  # noqa: ANN401 - array, tensor or MetaTensor
    """Other voxels of the same kind, type and metadata."""
    if isinstance(image, np.ndarray):
        return data.astype(image.dtype)
    changed = image.clone()
    changed[...] = torch.as_tensor(data, dtype=image.dtype, device=image.device)
    return changed
