"""Harmonisation of a simulated second scanner, measured on brains of IXI.

Writes the tables of docs/explanation/harmonisation.md.

    PYTHONPATH=. python docs/scripts/harmonisation.py sites DATA SPLITS OUT
    PYTHONPATH=. python docs/scripts/harmonisation.py measure OUT ARM AGES [--model M]
    PYTHONPATH=. python docs/scripts/harmonisation.py table OUT

Site A is the data as stored, on the grid of zoo/ixi-brain; site B the same as another scanner might
show it. Of the training subjects every second one is of B. ARM is A, B (as it is), histogram, or
any name with the folder of a harmoniser as --model; --recalibrate calibrates on scans of B. AGES is
the table of participants. The truth of a test scan is how it was stored.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from second_scanner import (
    EVERY,
    ZOO,
    Change,
    another_scanner,
    histogram_matching,
    lesioned,
    write_sites,
)
from torch import Tensor
from uses_of_scans import age_errors, site_features, tissue_dice

from medgan.core.tables import markdown_table
from medgan.core.volume import Volume
from medgan.evaluation.interval import by_subject, paired_difference, proportion
from medgan.evaluation.probes.two_sample import auroc
from medgan.model.model import Model

RATES = (0.05, 0.10)
LESION = 0.1
"""Changes of the stored scan above this are a lesion, in [-1, 1]."""
Pair = tuple[Volume, Volume | None]
"""A scan without and with a lesion."""


def change_of(arm: str, out: Path, model: str) -> Change:
    """What is done to scans of site B before they are used."""
    if model:
        harmoniser = Model.load(model)
        return lambda scan: harmoniser.translate(scan).images["image"]
    return histogram_matching(out) if arm == "histogram" else lambda scan: scan


@dataclass(frozen=True)
class Found:
    """What was measured of one arm.

    Attributes:
        site: probability of site B of A's and of B's test scans.
        error: mean absolute difference of each test scan from itself as stored, in [-1, 1].
        kept: share of the contrast of each lesion that is left.
        comparable: whether each healthy test scan is comparable with the calibration.
        age: absolute error in years of each test scan whose age is known.
        tissues: Dice of each test scan, mean of fluid, grey and white matter.
        healthy, lesion: scores of the test scans without and with a lesion.
        healthy_p, lesion_p: their p-values.
    """

    site: tuple[list[float], list[float]]
    error: list[float]
    kept: list[float]
    comparable: list[bool]
    age: list[float]
    tissues: list[float]
    healthy: list[float]
    lesion: list[float]
    healthy_p: list[float]
    lesion_p: list[float]


def scans_of(out: Path, folder: str, seen: Change | None) -> Iterator[Pair]:
    """Scans as stored (None) or of site B and changed; those to test also with a lesion."""
    paths = sorted((out / folder).glob("*.nii.gz"))
    for number, path in list(enumerate(paths))[::EVERY]:
        scan, donor = Volume.load(path), Volume.load(paths[(number + 1) % len(paths)])
        made = [scan.data]
        if folder == "test":
            made.append(lesioned(scan.data, donor.data, number // EVERY))
        if seen is not None:
            made = [another_scanner(data, path.name.split(".")[0]) for data in made]
        volumes = [scan.like(data) if seen is None else seen(scan.like(data)) for data in made]
        yield volumes[0], volumes[1] if len(volumes) > 1 else None


def measure(out: Path, arm: str, ages: Path, harmoniser: str, recalibrate: bool) -> Found:
    """Scores of the test scans, how well their site is told, and their errors."""
    change = None if arm == "A" else change_of(arm, out, harmoniser)
    model = Model.load(ZOO)
    assert model.calibration is not None
    if recalibrate:
        own = [scan for scan, _ in scans_of(out, "calibration", change)]
        model.calibrate(own, model.calibration.scoring_config)
    known, pairs = model.calibration, list(scans_of(out, "test", change))
    assert known is not None
    healthy = [model.score(scan) for scan, _ in pairs]
    lesion = [model.score(scan).score for _, scan in pairs if scan is not None]
    error, kept = from_truth(model, pairs, list(scans_of(out, "test", None)))
    volumes = torch.stack([model.prepare(scan).volume for scan, _ in pairs])
    return Found(
        told(out, model, change, [scan for scan, _ in pairs]), error, kept,
        [one.p_value is not None for one in healthy], age_errors(out, model, ages, volumes),
        tissue_dice(out, model, volumes), [one.score for one in healthy], lesion,
        [known.p_value(one.score) for one in healthy], [known.p_value(score) for score in lesion],
    )  # fmt: skip


def from_truth(
    model: Model, seen: Sequence[Pair], stored: Sequence[Pair]
) -> tuple[list[float], list[float]]:
    """Errors of scans against those stored, and the share of each lesion's contrast."""

    def prepared(scan: Volume | None) -> np.ndarray:
        assert scan is not None
        return model.prepare(scan).volume[0].numpy()

    errors, kept = [], []
    for pair, wanted in zip(seen, stored, strict=True):
        (found, found_ill), (real, real_ill) = map(prepared, pair), map(prepared, wanted)
        inside, contrast = real > -1, real_ill - real
        errors.append(float(np.abs(found - real)[inside].mean()))
        lesion = inside & (np.abs(contrast) > LESION)
        left = (contrast * (found_ill - found))[lesion].sum() / np.square(contrast[lesion]).sum()
        kept.append(float(left))
    return errors, kept


def told(
    out: Path, model: Model, change: Change | None, test: list[Volume]
) -> tuple[list[float], list[float]]:
    """Probability of site B by a regression on texture and histograms, trained on training scans.

    As a floor, halves of site A are told apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def prepared(scans: list[Volume]) -> Tensor:
        return torch.stack([model.prepare(scan).volume for scan in scans])

    def read(folder: str) -> list[Volume]:
        return [Volume.load(path) for path in sorted((out / folder).glob("*.nii.gz"))[::EVERY]]

    first, first_test = prepared(read("siteA")), prepared(read("test"))
    if change is None:
        sets = [first[::2], first[1::2], first_test[::2], first_test[1::2]]
    else:
        second = prepared([change(scan) for scan in read("siteB")])
        sets = [first, second, first_test, prepared(test)]
    a, b, a_test, b_test = map(site_features, sets)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    regression.fit(np.concatenate([a, b]), [0] * len(a) + [1] * len(b))
    found = [regression.predict_proba(part)[:, 1].tolist() for part in (a_test, b_test)]
    return found[0], found[1]


def table(out: Path) -> None:
    """Prints all arms that were measured, and differences from site B as it is."""
    arms = {p.stem: Found(**json.loads(p.read_text())) for p in sorted(out.glob("*.json"))}
    head = [
        "arm",
        "site told",
        "error",
        "lesion kept",
        "error of age",
        "Dice of tissues",
        "not comparable",
    ]
    head += [f"{kind} at {rate:.2f}" for kind in ("false alarms", "power") for rate in RATES]
    rows = []
    for name, found in arms.items():
        texts = [f"{auroc(*map(torch.tensor, found.site[::-1])):.2f}"]
        for values in (found.error, found.kept, found.age, found.tissues):
            share, low, high = by_subject(np.array(values))
            texts.append(f"{share:.3f} ({low:.3f} to {high:.3f})")
        texts.append(f"{found.comparable.count(False)} of {len(found.comparable)}")
        for values in (found.healthy_p, found.lesion_p):
            for rate in RATES:
                count = sum(p <= rate + 1e-12 for p in values)
                share, low, high = proportion(count, len(values))
                texts.append(f"{share:.2f} ({low:.2f} to {high:.2f})")
        rows.append([name, *texts, f"{_lesions(_scores(found)):.2f}"])
    print(markdown_table([*head, "AUROC of lesions"], rows))
    rows = [
        [f"{name} - {base}", *_differences(arms[base], found)]
        for base in ("B", "histogram")
        for name, found in arms.items()
        if name != base and base in arms
    ]
    head = ["difference", "error", "false alarms at 0.10", "AUROC of lesions"]
    print(markdown_table(head, rows))


def _scores(found: Found) -> np.ndarray:
    return np.stack([found.healthy, found.lesion], axis=1)


def _lesions(scores: np.ndarray) -> float:
    healthy, lesion = torch.from_numpy(scores).T
    return auroc(lesion, healthy)


def _differences(first: Found, second: Found) -> list[str]:
    """Second minus first, paired by subject: error, false alarms at 0.10, AUROC of lesions."""
    pairs = [
        [np.array(found.error), np.array(found.healthy_p) <= RATES[1] + 1e-12]
        for found in (first, second)
    ]
    intervals = [by_subject(after * 1.0 - before) for before, after in zip(*pairs, strict=True)]
    before, after = (_scores(found)[None] for found in (first, second))
    lesions = paired_difference(before, after, _lesions)
    return [
        f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
        for value, low, high in (*intervals, lesions.interval)
    ]


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("sites", "measure", "table"))
    parser.add_argument("given", nargs="+")
    parser.add_argument("--model", default="")
    parser.add_argument("--recalibrate", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if given.part == "sites":
        data, splits, out = map(Path, given.given)
        write_sites(data, splits, out)
    elif given.part == "measure":
        (out, ages), arm = map(Path, given.given[::2]), given.given[1]
        found = measure(out, arm, ages, given.model, given.recalibrate)
        name = f"{arm}, recalibrated" if given.recalibrate else arm
        (out / f"{name}.json").write_text(json.dumps(asdict(found)))
    else:
        table(Path(given.given[0]))


if __name__ == "__main__":
    main()
