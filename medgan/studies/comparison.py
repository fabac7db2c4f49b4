"""Comparison of generators with real scans: same scans, same evaluation networks."""

import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.core.config import CompareConfig, Preprocessing
from medgan.core.errors import ConfigError, DataError
from medgan.core.files import write_atomic
from medgan.core.tables import markdown_table
from medgan.data.manifest import Manifest
from medgan.data.prepared import RealScans, enough_preparable, read_scans
from medgan.data.reading import Refuse, log_refusals
from medgan.evaluation.probes.segmentation import dice_by_label, segment, train_segmenter
from medgan.evaluation.probes.two_sample import real_floor, separability
from medgan.evaluation.sets.distance import kernel_interval
from medgan.evaluation.sets.similarity import mean_similarity
from medgan.networks.metrics import band_features
from medgan.studies.generated_sets import GeneratedSet

log = logging.getLogger(__name__)
REPORT = "comparison.json"
COUNT, PAIRS = 500, 500
"""Volumes that a model generates; pairs of volumes whose similarity is averaged."""
SEEDS, STEPS, SEGMENTER_STEPS = 3, 400, 600
"""Trainings of each classifier and segmenter, and the steps of each."""
REAL = "real against real"
FEWEST = {"train": 8, "test": 4}
Row = dict[str, Any]


def compare(
    generated_sets: Iterable[GeneratedSet],
    manifest: Manifest,
    out: Path,
    settings: CompareConfig,
    device: torch.device,
    refuse: Refuse = log_refusals,
) -> dict[str, Any]:
    """Compares generators with real scans and writes comparison.json.

    Training scans train the evaluation networks. Test scans test them and are the reference of the
    kernel distance. Validation scans, by which weights are chosen, and calibration scans are not
    used.

    Args:
        generated_sets: all on one grid; read one after the other, since each may be large.
        manifest: with the splits that the generators were trained with.
        out: receives cache and comparison.json.
        settings: the compare section.
        device: of the evaluation networks.
        refuse: receives scans that cannot be prepared; they are left out.

    Returns:
        rows, the table as Markdown, and the protocol's sizes.

    Raises:
        ConfigError: E_GRID when they lie on different grids, E_USAGE when there is none.
        DataError: E_SPLIT with too few scans or volumes.
    """
    evaluation: _Evaluation | None = None
    rows: list[Row] = []
    for generated in generated_sets:
        if evaluation is None:
            grid = generated.preprocessing
            cases = {
                split: enough_preparable(manifest, split, fewest, grid, out, refuse)
                for split, fewest in FEWEST.items()
            }
            scans = {split: read_scans(some, grid, out) for split, some in cases.items()}
            evaluation = _Evaluation(scans, grid, manifest.digest, settings, device)
            log.info("%s", REAL)
            rows.append(evaluation.real_row())
        if generated.preprocessing != evaluation.preprocessing:
            raise ConfigError(
                "E_GRID", generated.name, "lies on another grid than the others",
                "train it with the same data section",
            )  # fmt: skip
        log.info("%s", generated.name)
        rows.append(evaluation.row(generated))
    if evaluation is None:
        raise ConfigError("E_USAGE", "compare.models", "none named", "name models or baselines")
    result = {"protocol": evaluation.protocol(), "rows": rows, "table": table(rows)}
    write_atomic(out / REPORT, json.dumps(result, indent=1))
    return result


class _Evaluation:
    """Real scans, and metrics of generated sets against them."""

    def __init__(
        self,
        scans: dict[str, RealScans],
        preprocessing: Preprocessing,
        digest: str,
        settings: CompareConfig,
        device: torch.device,
    ) -> None:
        self.preprocessing, self.settings, self.device = preprocessing, settings, device
        self.digest = digest
        self.seeds = range(SEEDS)
        self.values = torch.tensor(preprocessing.labels, device="cpu")
        self.train, self.test = scans["train"], scans["test"]
        self.reference = band_features(self.test.images)
        self.segmenters: list[nn.Module] = []
        if settings.segmentation:
            if min(len(self.train.label_maps), len(self.test.label_maps)) < 2:
                log.warning("too few label maps in the training or test split: no segmentation")
                return
            pairs = self._pairs(self.train)
            self.segmenters = [self._segmenter(pairs, seed) for seed in self.seeds]

    def protocol(self) -> dict[str, Any]:
        """Sizes that the results depend on."""
        return {
            "count": COUNT,
            "seeds": SEEDS,
            "steps": STEPS,
            "pairs": PAIRS,
            "segmentation": self.settings.segmentation,
            "relabelled": self.settings.relabel,
            "segmentation_steps": SEGMENTER_STEPS,
            "training_scans": len(self.train.images),
            "test_scans": len(self.test.images),
            "reference_scans": len(self.reference),
            "data_digest": self.digest,
        }

    def real_row(self) -> Row:
        """Metrics of real scans against real scans."""
        train, test = (s.images.to(self.device) for s in (self.train, self.test))
        row: Row = {
            "name": REAL,
            "volumes": len(train),
            "kernel_distance": self._distance(train),
            "ms_ssim": mean_similarity(test, PAIRS, 0),
            **self._auroc(real_floor, train, test),
        }
        if self.segmenters:
            real = self._dice_on_real(self.segmenters)
            row |= {"dice": real, "dice_ratio": _over([1.0]), "consistency": real}
        return row

    def row(self, generated: GeneratedSet) -> Row:
        """Metrics of one generator."""
        images = generated.images.to(self.device)
        if len(images) < 2 * FEWEST["train"]:
            raise DataError(
                "E_SPLIT", generated.name, f"{len(images)} synthetic volumes are too few",
                f"give at least {2 * FEWEST['train']}",
            )  # fmt: skip
        same = generated.data_digest == self.digest
        if not same:
            log.warning(
                "%s was trained on other scans or splits: test scans may be among them",
                generated.name,
            )  # fmt: skip
        train, test = self.train.images.to(self.device), self.test.images.to(self.device)
        first, second = images.tensor_split(2)
        row: Row = {
            "name": generated.name,
            "volumes": len(images),
            "same_scans_and_splits": same,
            **generated.effort,
            "kernel_distance": self._distance(images),
            "ms_ssim": mean_similarity(images, PAIRS, 0),
            **self._auroc(separability, train, first, test, second),
        }
        if self.segmenters and generated.label_maps is not None:
            row |= self._segmentation(images, self._classes(generated.label_maps))
        return row

    def _auroc(self, measure: Callable[..., float], *volumes: Tensor) -> Row:
        """At full resolution, and at half of it, which removes noise and the finest texture."""
        halved = [F.avg_pool3d(v, 2) for v in volumes]
        return {
            name: _over([measure(*sets, seed, STEPS) for seed in self.seeds])
            for name, sets in (("auroc", volumes), ("auroc_half", halved))
        }

    def _distance(self, images: Tensor) -> dict[str, float]:
        """Of as many volumes as there are training scans, in every row."""
        features = band_features(images[: len(self.train.images)]).cpu()
        return kernel_interval(self.reference, features).rounded()

    def _segmentation(self, images: Tensor, classes: Tensor) -> Row:
        labels = len(self.values)
        found = [segment(segmenter, images) for segmenter in self.segmenters]
        given = found if self.settings.relabel else [classes] * len(self.seeds)
        trained = [
            self._segmenter((images, maps), seed)
            for maps, seed in zip(given, self.seeds, strict=True)
        ]
        on_real = self._dice_on_real(trained)
        best = self._dice_on_real(self.segmenters)
        ratios = [a / max(b, 1e-6) for a, b in zip(on_real["seeds"], best["seeds"], strict=True)]
        own = [dice_by_label(maps, classes, labels) for maps in found]
        return {"dice": on_real, "dice_ratio": _over(ratios), "consistency": self._by_label(own)}

    def _segmenter(self, pairs: tuple[Tensor, Tensor], seed: int) -> nn.Module:
        return train_segmenter(*pairs, len(self.values), SEGMENTER_STEPS, seed)

    def _dice_on_real(self, segmenters: list[nn.Module]) -> Row:
        images, classes = self._pairs(self.test)
        found = [segment(segmenter, images) for segmenter in segmenters]
        return self._by_label([dice_by_label(f, classes, len(self.values)) for f in found])

    def _by_label(self, dice: list[Tensor]) -> Row:
        """Means over seeds by label, and the mean over labels of every seed."""
        means = torch.stack(dice).mean(dim=0).tolist()
        by_label = zip(self.values.tolist(), means, strict=True)
        labels = {str(v): None if math.isnan(d) else round(d, 4) for v, d in by_label}
        return {"labels": labels, **_over([float(d.nanmean()) for d in dice])}

    def _pairs(self, scans: RealScans) -> tuple[Tensor, Tensor]:
        return scans.images[scans.labelled].to(self.device), self._classes(scans.label_maps)

    def _classes(self, label_maps: Tensor) -> Tensor:
        """Label values to classes from 1, others to background."""
        classes = torch.zeros_like(label_maps, dtype=torch.long)
        for number, value in enumerate(self.values.tolist(), start=1):
            classes[label_maps == value] = number
        return classes.to(self.device)


def _over(values: list[float]) -> Row:
    """Mean and range over seeds."""
    mean = sum(values) / len(values)
    return {
        "mean": round(mean, 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "seeds": [round(value, 4) for value in values],
    }


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table; an asterisk marks generators trained on other scans."""
    head = ["generator", "kernel distance (95%)", "MS-SSIM", "AUROC (range)", "at half size"]
    segmented = any("dice" in row for row in rows)
    head += ["Dice ratio (range)", "label consistency"] if segmented else []
    lines = []
    for row in rows:
        mark = "" if row.get("same_scans_and_splits", True) else " *"
        distance = row["kernel_distance"]
        cells = [
            f"{row['name']}{mark}",
            f"{distance['value']:.2f} ({distance['low']:.2f} to {distance['high']:.2f})",
            f"{row['ms_ssim']:.3f}",
            _shown(row["auroc"]),
            _shown(row["auroc_half"]),
        ]
        if segmented:
            cells += [_shown(row[key]) if key in row else "" for key in
                      ("dice_ratio", "consistency")]  # fmt: skip
        lines.append(cells)
    return markdown_table(head, lines)


def _shown(metric: Row) -> str:
    return f"{metric['mean']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"
