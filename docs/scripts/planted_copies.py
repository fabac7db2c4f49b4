"""Are distorted copies of training scans nearer to them than any two subjects are?

Gives the figures of docs/how-to/conditions.md, "Explain the scans".

    python docs/scripts/planted_copies.py zoo/hippocampus DATA SPLITS
"""

import argparse
from pathlib import Path

import torch

from medgan.data.index import index
from medgan.data.prepared import stored
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case
from medgan.data.splits import read_splits, with_given_splits
from medgan.evaluation.privacy.distortions import distort
from medgan.evaluation.privacy.nearest import nearest_scans
from medgan.model.model import Model

COPIES = 20

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for argument in ("model", "data", "splits"):
        parser.add_argument(argument, type=Path)
    given = parser.parse_args()
    model, pseudonyms = Model.load(given.model), Pseudonyms.of_site()
    manifest, _ = index(given.data, pseudonyms)
    splits = read_splits(given.splits, given.data)
    cases = with_given_splits(manifest, splits, pseudonyms, 0).split("train")
    volumes = [model.prepare(read_case(case, False), case.case).volume for case in cases]
    scans = stored(torch.stack(volumes))
    subjects = {case.subject: number for number, case in enumerate(cases)}
    subject = torch.tensor([subjects[case.subject] for case in cases])
    found = nearest_scans(distort(scans[:COPIES], 0), scans, subject)
    nearer = sum(found.share_as_near(row) == 0 for row in range(COPIES))
    traced = int((found.numbers[:, 0] == torch.arange(COPIES)).sum())
    print(f"of {COPIES} copies {nearer} are nearer than any two of {len(cases)} scans; the nearest "
          f"scan is the original of {traced}")  # fmt: skip
