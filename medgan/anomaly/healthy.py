"""What is usual at each voxel of an aligned scan, once the template is bent to it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.statistics import MapStatistics
from medgan.core.config import Preprocessing
from medgan.core.template import Template
from medgan.data.deformation import bent, deformation


@dataclass(frozen=True)
class BentTemplate:
    """Mean and spread of the template's scans, bent to every volume by its first channel.

    Attributes:
        template: of scans that were bent to their mean.
    """

    template: Template

    def at(self, volumes: Float[Tensor, "B C X Y Z"]) -> MapStatistics:
        """Mean and spread, each (B, C, X, Y, Z), on the device of the volumes."""
        both = np.concatenate([self.template.mean, self.template.floored_spread])
        found = np.stack(
            [
                bent(both, deformation(one, self.template.mean[0]))
                for one in volumes[:, 0].float().cpu().numpy()
            ]
        )
        mean, spread = torch.from_numpy(found).to(volumes.device).chunk(2, dim=1)
        return MapStatistics(mean, spread)


Healthy = MapStatistics | BentTemplate


def healthy_of(preprocessing: Preprocessing, device: torch.device) -> Healthy | None:
    """What is usual in scans of a model; None where they are not aligned."""
    template = preprocessing.template
    if template is None:
        return None
    if preprocessing.align == "deformable":
        return BentTemplate(template)
    mean, spread = (torch.from_numpy(a) for a in (template.mean, template.floored_spread))
    return MapStatistics(mean, spread).to(device)
