"""Where synthetic scans come from: nearest training scans, and what each condition changes."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from medgan.core.files import write_atomic
from medgan.core.volume import SYNTHETIC
from medgan.data.conditions import UNKNOWN, Value, is_known
from medgan.data.counterfactual import other_values
from medgan.data.intensities import synthetic_scale
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.data.prepared import stored
from medgan.evaluation.privacy.nearest import Neighbours, nearest_scans
from medgan.model.generation import numbered_scan
from medgan.model.model import Model
from medgan.model.outputs import Synthetic
from medgan.reporting.generated import Change, Compared, NearestText, change_image
from medgan.workflows.training_scans import TrainingScans, training_scans

FILE, DIFFERENCES = "explained.json", "differences"
FULL_COLOUR = 0.25
"""Difference with the full colour, as a share of the range of intensities."""
_LONGEST = 60
"""Characters of a condition and its value in the name of a file."""
ABSENT = (
    "the scans that the model was trained on are not at hand: they lie beside the model of a "
    "training, or are named by --data with the manifest.json of the training"
)


class Explained(NamedTuple):
    """What is known of a synthetic scan besides its voxels.

    Attributes:
        nearest: how near training scans are, in words; None where these are not at hand.
        changes: what other values of each condition change.
        record: all of it, for the file.
    """

    nearest: NearestText | None
    changes: tuple[Change, ...]
    record: dict[str, Any]


class Explainer:
    """Explains synthetic scans one by one, and all of them at the end.

    Args:
        model: that generated them.
        folder: receives `explained.json` and `differences/`.
        manifest: of the training.
        truncation: of their latents.
    """

    def __init__(self, model: Model, folder: Path, manifest: Path, truncation: float) -> None:
        self._model, self._folder, self._truncation = model, folder, truncation
        self._training = training_scans(model, manifest)
        self._volumes: list[torch.Tensor] = []
        self._changes: list[list[Change]] = []
        self._records: list[dict[str, Any]] = []

    def add(self, scan: Synthetic) -> None:
        """Generates a scan again with other values of each condition, and writes differences."""
        channel = self._model.preprocessing.channels[0]
        scale = synthetic_scale(self._model.preprocessing, channel)
        self._volumes.append(scale(torch.from_numpy(scan.image.data).float())[None].half())
        changes, rows = [], []
        for condition in self._model.preprocessing.conditions:
            own = scan.covariates[condition.name]
            for other in other_values(condition, own):
                change, row = self._changed(scan, condition.name, own, other, len(rows) + 1)
                changes.append(change)
                rows.append(row)
        self._changes.append(changes)
        self._records.append({"number": scan.number, "changes": rows})

    def _changed(
        self, scan: Synthetic, name: str, own: Value, other: Value, number: int
    ) -> tuple[Change, dict[str, Any]]:
        """The same latent and noise with another value; its difference on the page and on disk.

        The number of the change tells files apart whose names are alike once they are `plain_part`.
        """
        assert scan.seed is not None
        known = {n: UNKNOWN if v is None else v for n, v in scan.covariates.items()}
        wanted = {**known, name: other}
        latent = self._model.draw(scan.seed, scan.number, wanted, self._truncation)
        changed = numbered_scan(self._model, latent, scan.seed, scan.number, SMALLEST_COMPONENT)
        difference = changed.image.data.astype(np.float32) - scan.image.data
        what = plain_part(f"{name}-{plain(other)}")
        file = f"{DIFFERENCES}/synthetic-s{scan.seed}-{scan.number:05d}_{number}-{what}"
        text = f"{SYNTHETIC}, {name} {plain(other)} less {name} {plain(own)}"
        scan.image.like(difference).save(self._folder / f"{file}.nii.gz", text)
        scale = synthetic_scale(self._model.preprocessing, self._model.preprocessing.channels[0])
        intensities = scale.intensities[-1] - scale.intensities[0]
        mean = float(np.abs(difference).mean()) / intensities
        change = Change(
            name, plain(own), plain(other), mean,
            change_image(scan.image, difference, FULL_COLOUR * intensities),
        )  # fmt: skip
        row = {
            "condition": name, "from": own, "to": other, "mean_change": round(mean, 6),
            "file": f"{file}.nii.gz",
        }  # fmt: skip
        return change, row

    def finish(self, seed: int) -> tuple[list[Explained], Compared]:
        """Compares all scans with training scans and writes the file.

        Returns:
            What is known of each scan, and what all are compared with.
        """
        found, training = None, self._training
        if training is not None:
            fakes = stored(torch.stack(self._volumes))
            found = nearest_scans(fakes, training.volumes[:, :1], training.subject)
        explained = []
        for row, (changes, record) in enumerate(zip(self._changes, self._records, strict=True)):
            nearest = None
            if found is not None and training is not None:
                nearest, more = _nearest(found, training, row)
                record |= more
            explained.append(Explained(nearest, tuple(changes), record))
        compared = _compared(found, training)
        file = {
            "synthetic": True, "seed": seed, "truncation": self._truncation,
            "compared_with": compared, "scans": self._records,
        }  # fmt: skip
        write_atomic(self._folder / FILE, json.dumps(file, indent=1))
        words = ABSENT if found is None else _in_words(compared)
        return explained, Compared(words, compared["training_scans"])


def _nearest(
    found: Neighbours, training: TrainingScans, row: int
) -> tuple[NearestText, dict[str, Any]]:
    """For the page and for the file."""
    share = found.share_as_near(row)
    near = [
        (training.cases[int(number)].case, round(float(value), 4))
        for number, value in zip(found.numbers[row], found.similarities[row], strict=True)
    ]
    scans = [{"case": case, "similarity": value} for case, value in near]
    text = NearestText(tuple((case, f"{value:.2f}") for case, value in near), share, not share)
    return text, {"nearest": scans, "training_scans_as_near": round(share, 4)}


def _compared(found: Neighbours | None, training: TrainingScans | None) -> dict[str, Any]:
    if found is None or training is None:
        return {"training_scans": 0}
    low, median, high = np.quantile(found.among.numpy(), [0.0, 0.5, 1.0])
    return {
        "training_scans": len(training.cases),
        "subjects": len({case.subject for case in training.cases}),
        "similarity_to_nearest_other": {
            "least": round(float(low), 4), "median": round(float(median), 4),
            "largest": round(float(high), 4),
        },
        "remark": training.remark,
    }  # fmt: skip


def _in_words(compared: dict[str, Any]) -> str:
    near = compared["similarity_to_nearest_other"]
    text = (
        f"{compared['training_scans']} training scans of {compared['subjects']} subjects: each "
        f"is similar to the nearest one of another subject by {near['least']:.2f} to "
        f"{near['largest']:.2f}, half of them by {near['median']:.2f} or more"
    )
    return f"{text} ({compared['remark']})" if compared["remark"] else text


def plain_part(text: str) -> str:
    """A part of the name of a file: what is no Latin letter, digit, dot or hyphen is underscored.

    Names of columns and their values may hold anything, such as `T1/T2` or `../x`.
    """
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:_LONGEST]


def plain(value: Value) -> str:
    """A value of a condition as the page shows it: a number in four digits, unknown in words."""
    if not is_known(value):
        return UNKNOWN
    return f"{value:.4g}" if isinstance(value, float) else str(value)
