"""Protocol of the lesion benchmark: which lesions are planted, and how a scorer is evaluated.

Lesions are planted into test scans. Mean and spread of maps, thresholds and p-values come from
calibration scans alone.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medgan.anomaly.calibration import ScoringConfig, calibrate, left_out_maps, mean_map
from medgan.core.errors import DataError
from medgan.core.volume import AIR
from medgan.data.lesions import CONTROL, FAMILIES, STRENGTHS, LesionedScan, plant
from medgan.data.shape_library import LesionShape
from medgan.data.shapes import draw_contrast, plant_shape
from medgan.evaluation.detection.lesionwise import size_of
from medgan.evaluation.detection.metrics import (
    dice,
    few_false_parts,
    few_false_voxels,
    region_overlap,
    voxel_average_precision,
)
from medgan.studies.detection.results import METRICS, Lesion, Results
from medgan.training.corruption import SHAPES

Maps = Callable[[Tensor], dict[str, Tensor]]
RADII = (3.0, 4.5, 6.0)
BATCH = 8
TOP_FRACTION = 0.01
FALSE_VOXELS = 0.01
"""Share of the voxels of healthy calibration scans above the threshold of Dice."""
_NUMBERS = {family: number for number, family in enumerate((*FAMILIES, CONTROL, *SHAPES))}


def all_lesions(
    scans: int,
    families: Sequence[str] = tuple(FAMILIES),
    radii: Sequence[float] = RADII,
    contrasts: Sequence[str] = tuple(STRENGTHS),
    each: int = 0,
) -> list[Lesion]:
    """Lesions of every family in every scan, in all sizes and contrasts or in some of them.

    Args:
        scans: number of scans.
        families: of lesions.
        radii: in voxels.
        contrasts: of `STRENGTHS`.
        each: sizes and contrasts for each scan and family, in rotation so that all are equally
            frequent; 0 is all of them.
    """
    kinds = [(radius, contrast) for contrast in contrasts for radius in radii]
    each = min(each or len(kinds), len(kinds))
    lesions = []
    for scan, family in itertools.product(range(scans), families):
        first = scan + _NUMBERS[family]
        picked = {(first + k * len(kinds) // each) % len(kinds) for k in range(each)}
        lesions += [Lesion(scan, family, *kinds[n]) for n in sorted(picked)]
    return lesions


def shape_lesions(
    volumes: Float[Tensor, "N 1 X Y Z"],
    shapes: Sequence[LesionShape],
    each: int,
    voxel_mm3: float,
    seed: int,
) -> list[Lesion]:
    """Dark and bright lesions with shapes of real ones in every scan, at the places they had.

    Args:
        volumes: healthy scans.
        shapes: to draw from; one that does not fit into a scan is passed over.
        each: dark and bright ones for each scan.
        voxel_mm3: volume of a voxel.
        seed: of the draw.
    """
    lesions = []
    for scan, family in itertools.product(range(len(volumes)), SHAPES):
        order = np.random.default_rng([seed, scan, _NUMBERS[family]]).permutation(len(shapes))
        fitting = (
            one
            for number in order.tolist()
            if (one := _fitting(volumes, scan, family, number, shapes, voxel_mm3, seed))
        )
        lesions += itertools.islice(fitting, each)
    return lesions


def _fitting(
    volumes: Tensor,
    scan: int,
    family: str,
    number: int,
    shapes: Sequence[LesionShape],
    voxel_mm3: float,
    seed: int,
) -> Lesion | None:
    """A shape in a scan, with its size there; None where it does not fit."""
    lesion = Lesion(scan, family, 0.0, "", number)
    try:
        voxels = int(lesioned_scan(volumes, lesion, seed, shapes).truth.sum())
    except DataError:
        return None
    radius = round((3 * voxels / (4 * np.pi)) ** (1 / 3), 2)
    return lesion._replace(radius=radius, size=size_of(voxels * voxel_mm3 / 1000))


def lesioned_scan(
    volumes: Float[Tensor, "N 1 X Y Z"],
    lesion: Lesion,
    seed: int,
    shapes: Sequence[LesionShape] = (),
) -> LesionedScan:
    """The scan with its lesion, a function of the lesion, the shapes and the seed alone.

    Foreign tissue comes from the next scan.
    """
    if lesion.family in SHAPES:
        rng = np.random.default_rng([seed, lesion.scan, _NUMBERS[lesion.family], lesion.shape])
        contrast = draw_contrast(rng, SHAPES[lesion.family])
        volume = volumes[lesion.scan, 0].numpy()
        return plant_shape(volume, shapes[lesion.shape], contrast, rng)
    key = [
        seed,
        lesion.scan,
        _NUMBERS[lesion.family],
        round(10 * lesion.radius),
        *lesion.contrast.encode(),
    ]
    healthy, donor = (volumes[(lesion.scan + n) % len(volumes), 0].numpy() for n in (0, 1))
    strength, rng = STRENGTHS[lesion.contrast], np.random.default_rng(key)
    return plant(healthy, donor, lesion.family, lesion.radius, strength, rng)


def evaluate(
    maps: Maps,
    calibration_volumes: Float[Tensor, "M 1 X Y Z"],
    test_volumes: Float[Tensor, "N 1 X Y Z"],
    lesions: Sequence[Lesion],
    combinations: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    shapes: Sequence[LesionShape] = (),
) -> dict[str, Results]:
    """Evaluates trained scorers on planted lesions.

    Args:
        maps: gives score maps (B, 1, X, Y, Z) of volumes, by name.
        calibration_volumes: healthy, in [-1, 1], not used in training.
        test_volumes: healthy, of other subjects again.
        lesions: to plant into the test volumes.
        combinations: names of the maps that are combined, by the name of the result; each map
            alone unless given.
        seed: of the lesions.
        progress: called with the number of lesions done and their total.
        shapes: of real lesions, which some of the lesions have.

    Returns:
        Results by combination, all from the same maps of the same lesions.
    """
    parts = [maps(part) for part in calibration_volumes.split(BATCH)]
    raw = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    chosen = combinations or {name: (name,) for name in raw}
    collectors = {
        name: _Collector({n: raw[n] for n in members}, calibration_volumes)
        for name, members in chosen.items()
    }
    for part in test_volumes.split(BATCH):
        found = maps(part)
        for collector in collectors.values():
            collector.add_healthy(found, part)
    for start in range(0, len(lesions), BATCH):
        some = lesions[start : start + BATCH]
        planted = [lesioned_scan(test_volumes, lesion, seed, shapes) for lesion in some]
        found = maps(torch.from_numpy(np.stack([p.volume for p in planted]))[:, None])
        for collector in collectors.values():
            collector.add_lesioned(found, planted, [test_volumes[t.scan, 0] for t in some])
        progress(start + len(some), len(lesions))
    return {name: collector.results(lesions) for name, collector in collectors.items()}


class _Collector:
    """Collects scores and metrics of one combination of maps.

    Args:
        raw: maps of the calibration scans, by name.
        volumes: these scans.
    """

    def __init__(self, raw: dict[str, Tensor], volumes: Tensor) -> None:
        scoring_config = ScoringConfig(tuple(raw), TOP_FRACTION)
        self._calibration = calibrate(raw, scoring_config)
        left_out = [mean_map(maps.values()) for maps in left_out_maps(raw)]
        voxels = _foreground(torch.cat(left_out).numpy(), volumes)
        self._threshold = float(np.quantile(voxels, 1 - FALSE_VOXELS))
        self._healthy_scores: list[float] = []
        self._healthy_maps: list[np.ndarray] = []
        self._healthy_voxels: list[np.ndarray] = []
        self._voxel_thresholds = np.zeros(0)
        self._component_thresholds = np.zeros(0)
        self._above: list[np.ndarray] = []
        self._rows: list[tuple[float, ...]] = []

    def add_healthy(self, found: dict[str, Tensor], volumes: Tensor) -> None:
        """Adds test scans without lesions."""
        scores, maps = self._scored(found)
        self._healthy_scores += scores.tolist()
        self._healthy_maps += list(maps)
        self._healthy_voxels.append(_foreground(maps[:, None], volumes))

    def add_lesioned(
        self, found: dict[str, Tensor], planted: Sequence[LesionedScan], healthy: Sequence[Tensor]
    ) -> None:
        """Adds scans with lesions, once all test scans without lesions have been added."""
        if not len(self._voxel_thresholds):
            self._voxel_thresholds = few_false_voxels(np.concatenate(self._healthy_voxels))
            self._component_thresholds = few_false_parts(self._healthy_maps)
        scores = np.array(self._healthy_scores)
        for score, score_map, one, volume in zip(
            *self._scored(found), planted, healthy, strict=True
        ):
            self._above.append((score > scores) + 0.5 * (score == scores))
            if not one.truth.any():  # a control
                self._rows.append((float("nan"),) * (len(METRICS) + 1))
                continue
            mask = (volume.numpy() > AIR) | one.truth
            self._rows.append(
                (
                    voxel_average_precision(score_map, one.truth, mask),
                    dice((score_map > self._threshold) & mask, one.truth),
                    region_overlap(score_map, one.truth, self._voxel_thresholds),
                    float((score_map[one.truth].max() > self._component_thresholds).mean()),
                    float(one.truth[mask].mean()),
                )
            )

    def results(self, lesions: Sequence[Lesion]) -> Results:
        """Everything collected."""
        rows = np.array(self._rows)
        p_values = [self._calibration.p_value(score) for score in self._healthy_scores]
        return Results(
            tuple(lesions), np.array(self._above), rows[:, :-1], rows[:, -1], np.array(p_values),
            len(self._calibration.scores),
        )  # fmt: skip

    def _scored(self, found: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Scan scores (B,) and standardised maps (B, X, Y, Z)."""
        named = {name: found[name] for name in self._calibration.statistics}
        scores, maps, _ = self._calibration.score(named)
        return scores.numpy(), maps[:, 0].numpy()


def _foreground(maps: np.ndarray, volumes: Tensor) -> np.ndarray:
    """Values of maps in the foreground of volumes."""
    return maps[volumes.numpy() > AIR]
