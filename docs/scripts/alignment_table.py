"""Lesions found by the density alone, by how scans are aligned: the table of alignment.md.

python docs/scripts/alignment_table.py msd_hippocampus DATA SPLITS OUT
python docs/scripts/alignment_table.py ixi_brain_2mm DATA SPLITS OUT --lesions 1
"""

import argparse
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from medgan.anomaly.context import ScoringContext, ScoringNetworks
from medgan.anomaly.scorers import learn_densities, make_maps
from medgan.app.pipeline_files import read_pipeline
from medgan.core.config import build
from medgan.core.tables import markdown_table
from medgan.data.batches import PreparedVolumes
from medgan.data.index import index
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.splits import read_splits, with_given_splits
from medgan.data.template import aligned_plan
from medgan.studies.detection.protocol import BATCH, all_lesions, evaluate

SPLITS = ("train", "calibration", "test")


def row(preset: str, align: str, source: Path, splits: Path, out: Path, each: int) -> list[str]:
    """AUROC, average precision and seconds to prepare a scan."""
    settings = [f"data.align={align}", "data.brain=none", "data.labels=[]", "data.conditions={}"]
    config = build(read_pipeline(preset)[1], settings).data
    pseudonyms = Pseudonyms(b"table")
    known = read_splits(splits, source)
    manifest = with_given_splits(index(source, pseudonyms)[0], known, pseudonyms)
    cases = {split: manifest.split(split) for split in SPLITS}
    cases["train"] = [*cases["train"], *manifest.split("validation")]
    grid = aligned_plan(config, cases["train"], out)
    volumes: dict[str, Tensor] = {}
    started = time.process_time()
    for split, some in cases.items():
        prepared = PreparedVolumes(some, grid, out)
        prepared.warm()
        volumes[split] = torch.cat(list(prepared.batches()))
    seconds = (time.process_time() - started) / sum(map(len, volumes.values()))
    bare = ScoringNetworks(None, None, None, {})
    densities = learn_densities(lambda: volumes["train"].split(BATCH), bare)
    networks = ScoringNetworks(None, None, None, densities)

    def maps(part: Tensor) -> dict[str, Tensor]:
        return make_maps(ScoringContext(part, networks), ("density",))

    lesions = all_lesions(len(volumes["test"]), each=each)
    found = evaluate(maps, volumes["calibration"], volumes["test"], lesions)["density"]
    auroc, precision = found.auroc(), found.metric("average_precision")
    texts = [f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in (auroc, precision)]
    return [align, *texts, f"{seconds:.2f}"]


def main() -> None:
    """Prints the table of one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("source", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("out", type=Path, help="receives prepared scans and templates")
    parser.add_argument("--lesions", type=int, default=2, help="of each family in each scan")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    rows = [
        row(arguments.preset, align, arguments.source, arguments.splits, arguments.out,
            arguments.lesions)
        for align in ("none", "rigid", "affine")
    ]  # fmt: skip
    head = ("data.align", "AUROC (95%)", "average precision (95%)", "seconds a scan to prepare")
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main()
