"""Prints the floors of translation on a data set, without any model.

PYTHONPATH=. python docs/scripts/translation_floors.py MANIFEST SOURCE TARGET
MANIFEST is that of `medgan check`, with train and test patients; SOURCE is such as ct or ct+T1w.
Channels are T1w (0 where it was not seen), ct and pet.
"""

import argparse
from pathlib import Path

import numpy as np

from medgan.core.config import Preprocessing
from medgan.core.tables import markdown_table
from medgan.data.manifest import Manifest
from medgan.data.reading import read_case
from medgan.evaluation.translation.metrics import TranslationMetrics
from medgan.evaluation.translation.summary import mean_of
from medgan.studies.translation.floors import fit_floors
from medgan.studies.translation.scans import Channels, PairedScan, paired_scan

KINDS = {"T1w": "mri", "ct": "ct", "pet": "pet"}


def main() -> None:
    """Fits on the training patients, prints a row a floor over the test patients."""
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    parser.add_argument("source")
    parser.add_argument("target")
    given = parser.parse_args()
    source = tuple(given.source.split("+"))
    names = (*source, given.target)
    preprocessing = Preprocessing(
        spacing=(4, 4, 4), shape=(32, 32, 32), channels=names,
        intensity={name: KINDS[name] for name in names}, unseen={"T1w": 0}, patches=True,
    )  # fmt: skip
    channels = Channels(source, (given.target,), preprocessing)
    manifest = Manifest.load(given.manifest)
    train, test = (read(manifest, split, channels) for split in ("train", "test"))
    seen = np.concatenate([scan.target[given.target][scan.region(given.target)] for scan in train])
    limits = float(np.quantile(seen, 0.001)), float(np.quantile(seen, 0.999))
    print(f"{given.source} to {given.target}, PSNR and SSIM from {limits[0]:g} to {limits[1]:g}")
    rows = []
    for name, floor in fit_floors(train, given.target).items():
        results = [
            TranslationMetrics.of(
                floor(scan), scan.target[given.target], scan.region(given.target), scan.tumour,
                limits,
            )
            for scan in test
        ]  # fmt: skip
        means = [mean_of(results, metric) for metric in TranslationMetrics._fields]
        rows.append([name, *(f"{m.value:.4g} ({m.low:.4g} to {m.high:.4g})" for m in means)])
    print(markdown_table(["floor", *TranslationMetrics._fields], rows), flush=True)


def read(manifest: Manifest, split: str, channels: Channels) -> list[PairedScan]:
    """The scans of a split."""
    return [
        paired_scan(read_case(case), channels, case.case, case.subject)
        for case in manifest.split(split)
    ]


if __name__ == "__main__":
    main()
