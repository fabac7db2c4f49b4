"""What scans of a site are used for: a regression of age and a segmenter, both of site A.

Used by harmonisation.py, which measures whether they still work with changed scans.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from second_scanner import EVERY
from skimage.filters import threshold_multiotsu
from torch import Tensor, nn

from medgan.core.volume import Volume
from medgan.evaluation.probes.segmentation import (
    dice_of_scans,
    fresh_segmenter,
    segment,
    train_segmenter,
)
from medgan.model.model import Model
from medgan.networks.metrics import band_features

TISSUES = 3


def prepared_files(out: Path, folder: str, model: Model) -> tuple[list[str], Tensor]:
    """Every second scan of a folder as stored: subjects, and volumes of the model's grid."""
    paths = sorted((out / folder).glob("*.nii.gz"))[::EVERY]
    volumes = torch.stack([model.prepare(Volume.load(path)).volume for path in paths])
    return [path.name.split(".")[0] for path in paths], volumes


def age_errors(out: Path, model: Model, ages: Path, scans: Tensor) -> list[float]:
    """Absolute errors in years of a regression on texture and histograms of site A."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with ages.open(encoding="utf-8") as table:
        rows = {row["participant_id"]: row["age"] for row in csv.DictReader(table, delimiter="\t")}
    known = {subject: float(age) for subject, age in rows.items() if age not in ("", "n/a")}

    def fitting(subjects: list[str], volumes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        kept = [number for number, subject in enumerate(subjects) if subject in known]
        years = np.array([known[subjects[number]] for number in kept])
        return site_features(volumes[kept]), years

    regression = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    regression.fit(*fitting(*prepared_files(out, "siteA", model)))
    features, years = fitting(prepared_files(out, "test", model)[0], scans)
    return np.abs(regression.predict(features) - years).tolist()


def tissue_dice(out: Path, model: Model, scans: Tensor) -> list[float]:
    """Dice of a segmenter of site A with the tissues of each test scan as it was stored."""
    network = segmenter(out, model)
    truth = tissues(prepared_files(out, "test", model)[1])
    found = segment(network, scans)
    return dice_of_scans(found, truth, TISSUES).mean(dim=1).tolist()


def segmenter(out: Path, model: Model) -> nn.Module:
    """Trained on site A once, and kept."""
    path, (_, volumes) = out / "segmenter.pt", prepared_files(out, "siteA", model)
    if path.is_file():
        network = fresh_segmenter(min(volumes.shape[2:]), TISSUES).eval()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    network = train_segmenter(volumes, tissues(volumes), TISSUES, 400, 0, batch=2, bf16=False)
    torch.save(network.state_dict(), path)
    return network


def tissues(volumes: Tensor) -> Tensor:
    """Fluid, grey and white matter as 1, 2, 3: three groups of the intensities of each brain."""
    found = torch.zeros(volumes[:, 0].shape, dtype=torch.int64)
    for scan, classes in zip(volumes[:, 0], found, strict=True):
        values = scan[scan > -1]
        cuts = torch.from_numpy(threshold_multiotsu(values.numpy(), TISSUES))
        classes[scan > -1] = 1 + torch.bucketize(values, cuts.float())
    return found


def site_features(volumes: Tensor) -> np.ndarray:
    """Regional brightness and texture, and the histogram of the brain."""
    histograms = [torch.histc(v[v > -1], 24, -1, 1) / (v > -1).sum() for v in volumes]
    return torch.cat([band_features(volumes), torch.stack(histograms)], dim=1).numpy()
