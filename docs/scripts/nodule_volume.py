"""What the volume of a mask alone says of malignancy: the floor of the study of a rare group.

python docs/scripts/nodule_volume.py runs/rare-nodules/manifest.json
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from medgan.core.config import build
from medgan.data.conditions import covariate_of
from medgan.data.manifest import Case, Manifest
from medgan.data.plan import plan
from medgan.evaluation.probes.classification import classification_metrics
from medgan.studies.utility.classification import Classification

SETTINGS = {
    "data": {
        "spacing": [1.5, 1.5, 0.75], "shape": [16, 16, 16], "intensity": "ct", "labels": [1],
        "conditions": {"malignancy": "continuous"},
    },
    "utility": {
        "task": "classification", "target": "malignancy", "rare": "above 3", "frequent": "below 3",
    },
}  # fmt: skip
SIZE, SEEDS = 50, 3


def volumes(cases: list[Case]) -> np.ndarray:
    """Logarithms of the volumes of the masks, (N, 1)."""
    return np.log([[float(str(covariate_of(case, "label_1_mm3")))] for case in cases])


if __name__ == "__main__":
    manifest, config = Manifest.load(Path(sys.argv[1])), build(SETTINGS)
    train = manifest.split("train")
    task = Classification(train, plan(config.data, train), config.utility)
    tested = [case for case in manifest.split("test") if case.covariates["malignancy"] != "3"]
    for seed in range(SEEDS):
        cases = task.sample(SIZE, seed)
        model = LogisticRegression(class_weight="balanced")
        model.fit(volumes(cases), task.groups(cases).numpy())
        found = model.predict_proba(volumes(tested))[:, 1]
        print(seed, classification_metrics(found, task.groups(tested).numpy()))
