"""Scans with lesions for a localiser to learn from."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from medgan.anomaly.healthy import BentTemplate, Healthy
from medgan.training.corruption import as_another_scanner, augmented, planted, tissue_depth

_GENERATED = 0.5
"""Share of scans whose foreign tissue is generated instead of another scan's."""
_BRIGHTNESS, _OFFSET = 0.05, 0.05
"""Spreads of changes to whole scans that are no lesion, in every second one."""


class HealthyScans:
    """Training scans, and what is known of each once it was first shown.

    Args:
        volumes: healthy, (C, X, Y, Z) in [-1, 1].
        healthy: what is usual in them.
    """

    def __init__(self, volumes: Sequence[np.ndarray], healthy: Healthy | None) -> None:
        self.volumes, self.healthy = volumes, healthy
        self.bent = isinstance(healthy, BentTemplate)
        self._depths: dict[int, np.ndarray] = {}
        self._usual: dict[int, np.ndarray] = {}

    def depth(self, number: int) -> Float[np.ndarray, "X Y Z"]:
        """How far each voxel lies from air."""
        if number not in self._depths:
            self._depths[number] = tissue_depth(self.volumes[number]).astype(np.float32)
        return self._depths[number]

    def with_usual(self, number: int) -> np.ndarray:
        """A scan, followed by the mean and the spread of the template that is bent to it, if any.

        To bend it anew to every augmented scan would take longer than a step of the localiser.
        """
        volume = self.volumes[number]
        if not isinstance(self.healthy, BentTemplate):
            return volume
        if number not in self._usual:
            found = self.healthy.at(torch.from_numpy(volume)[None])
            both = torch.cat([found.mean[0], found.spread[0]])
            self._usual[number] = both.numpy().astype(np.float16)
        return np.concatenate([volume, self._usual[number].astype(np.float32)])


def lesioned_scan(
    scans: HealthyScans,
    generated: np.ndarray | None,
    families: Sequence[str],
    rng: np.random.Generator,
    extent: float,
    times: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A scan, perhaps moved and otherwise lit, with lesions; and where it is not healthy.

    Two more arrays, empty unless the template is bent to scans, are the mean and the spread there.
    A hundred scans shown as they are would soon be known by heart, and whatever they are not
    would be taken for a lesion.
    """
    chosen, other = (int(n) for n in rng.integers(len(scans.volumes), size=2))
    count = len(scans.volumes[chosen])
    shown = augmented(scans.with_usual(chosen), rng, extent, count)
    volume, mean, spread = np.split(shown, [count, 2 * count])
    volume = as_another_scanner(volume, rng)
    foreign = rng.random() < _GENERATED
    donor = generated if generated is not None and foreign else scans.volumes[other]
    corrupted, truth = volume, np.zeros((1, *volume.shape[1:]), bool)
    for _ in range(times):
        corrupted, more = planted(corrupted, donor, families, rng, scans.depth(chosen))
        truth = truth | more
    if rng.random() < 0.5:
        gain, offset = rng.normal(1, _BRIGHTNESS), rng.normal(0, _OFFSET)
        corrupted = (corrupted * gain + offset).clip(-1, 1)
    return corrupted.astype(np.float32), truth.astype(np.float32), mean, spread
