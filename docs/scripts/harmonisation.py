"""Harmonisation of a simulated second scanner, measured on brains of IXI.

Writes the tables of docs/explanation/harmonisation.md.

    PYTHONPATH=. python docs/scripts/harmonisation.py sites DATA SPLITS OUT
    PYTHONPATH=. python docs/scripts/harmonisation.py measure OUT ARM [--model M] [--recalibrate]
    PYTHONPATH=. python docs/scripts/harmonisation.py table OUT

Site A is the data as stored, on the grid of zoo/ixi-brain; site B the same as another scanner might
show it. Of the training subjects every second one is of B. ARM is A, B (as it is), histogram, or
any name with the folder of a harmoniser as --model.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medgan.core.tables import markdown_table
from medgan.core.volume import Volume
from medgan.data.grid import Grid
from medgan.data.lesions import plant
from medgan.data.shapes import plant_shapes
from medgan.evaluation.interval import by_subject, paired_difference, proportion
from medgan.evaluation.probes.two_sample import separability
from medgan.model.model import Model
from medgan.networks.metrics import band_features
from medgan.training.corruption import shipped_shapes

ZOO = "zoo/ixi-brain"
RATES = (0.05, 0.10)
FAMILIES = ("brighter", "darker", "foreign", "missing")
Change = Callable[[Volume], Volume]


def another_scanner(data: np.ndarray, subject: str) -> np.ndarray:
    """Gamma 1.6, a bias field of factor 4.5 between corners, blur of 0.6 voxels, noise of 5%.

    Each varies a little from subject to subject; the noise is Rician, air stays 0.
    """
    rng, inside = np.random.default_rng([7, int(subject[-3:])]), data > 0
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij")
    made = data / np.percentile(data[inside], 99.5)
    made = made ** (1.6 * np.exp(0.05 * rng.standard_normal()))
    slopes = np.array([0.35, 0.25, 0.15]) + 0.05 * rng.standard_normal(3)
    made = made * np.exp(sum(slope * place for slope, place in zip(slopes, places, strict=True)))
    made = gaussian_filter(made, 0.6 * np.exp(0.1 * rng.standard_normal()))
    noise = 0.05 * np.exp(0.15 * rng.standard_normal())
    real, imaginary = noise * rng.standard_normal((2, *made.shape))
    made = np.hypot(made + real, imaginary)
    return np.where(inside, np.maximum(600 * made, 1), 0).astype(np.float32)


def write_sites(data: Path, splits: Path, out: Path) -> None:
    """Training scans of both sites, and calibration and test scans as stored."""
    grid = Grid(Model.load(ZOO).preprocessing)
    for split, subjects in json.loads(splits.read_text())[data.name].items():
        for number, subject in enumerate(sorted(subjects)):
            scan = Volume.load(next(data.glob(f"{subject}/anat/*T1w.nii.gz")))
            placed = grid.crop(grid.resample(scan.data[None].astype(np.float32), scan.affine))
            stored = placed.as_tensor()[0].numpy()
            stored = np.where(stored < 2, 0, stored).astype(np.float32)
            folder = split
            if split == "train":
                folder = ("siteA", "siteB")[number % 2]
                stored = another_scanner(stored, subject) if number % 2 else stored
            Volume(stored, np.asarray(placed.affine)).save(out / folder / f"{subject}.nii.gz")


def lesioned(data: np.ndarray, donor: np.ndarray, number: int) -> np.ndarray:
    """With the dark shape of a stroke or, every second scan, a lesion of one of four families."""
    inside, rng = data > 0, np.random.default_rng([number, number % 2])
    low, high = np.percentile(data[inside], [0.5, 99.5])

    def scaled(scan: np.ndarray) -> np.ndarray:
        values = (2 * (scan - low) / (high - low) - 1).clip(-1, 1)
        return np.where(scan > 0, values, -1).astype(np.float32)

    before = scaled(data)
    if number % 2 == 0:
        made, _ = plant_shapes(before, shipped_shapes(), rng, most=1, bright=False)
    else:
        family, radius = FAMILIES[number // 2 % 4], (3.0, 4.0, 5.0)[number % 3]
        made = plant(before, scaled(donor), family, radius, 1.0, rng).volume
    changed = np.where(made != before, (made + 1) / 2 * (high - low) + low, data)
    return np.where(inside, np.maximum(changed, 1), 0).astype(np.float32)


def histogram_matching(out: Path) -> Change:
    """The grey values of a brain to those of all training brains of site A."""
    from skimage.exposure import match_histograms

    scans = [Volume.load(path).data for path in sorted((out / "siteA").glob("*.nii.gz"))]
    pooled = np.concatenate([scan[scan > 0] for scan in scans])

    def change(scan: Volume) -> Volume:
        matched, inside = np.zeros_like(scan.data), scan.data > 0
        matched[inside] = match_histograms(scan.data[inside], pooled)
        return scan.like(matched)

    return change


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
        site: probability of site B of A's and of B's test scans, by the regression.
        network: AUROC of the small network.
        comparable: whether each healthy test scan is comparable with the calibration.
        healthy, lesion: scores of the test scans without and with a lesion.
        healthy_p, lesion_p: their p-values.
    """

    site: tuple[list[float], list[float]]
    network: float
    comparable: list[bool]
    healthy: list[float]
    lesion: list[float]
    healthy_p: list[float]
    lesion_p: list[float]


def scans_of(out: Path, folder: str, seen: Change) -> Iterator[tuple[Volume, Volume | None]]:
    """Scans of a folder as an arm shows them; test scans also with a lesion."""
    paths = sorted((out / folder).glob("*.nii.gz"))
    for number, path in enumerate(paths):
        scan, donor = Volume.load(path), Volume.load(paths[(number + 1) % len(paths)])
        subject = path.name.split(".")[0]

        def shown(data: np.ndarray, scan: Volume = scan, subject: str = subject) -> Volume:
            return seen(scan.like(another_scanner(data, subject)))

        def stored(data: np.ndarray, scan: Volume = scan) -> Volume:
            return scan.like(data)

        made = stored if seen is _as_stored else shown
        ill = lesioned(scan.data, donor.data, number) if folder == "test" else None
        yield made(scan.data), None if ill is None else made(ill)


def _as_stored(scan: Volume) -> Volume:
    """Site A."""
    return scan


def measure(out: Path, arm: str, harmoniser: str, recalibrate: bool) -> Found:
    """Scores of the test scans, and how well their site is told."""
    change = _as_stored if arm == "A" else change_of(arm, out, harmoniser)
    model = Model.load(ZOO)
    assert model.calibration is not None
    if recalibrate:
        own = [scan for scan, _ in scans_of(out, "calibration", change)]
        model.calibrate(own, model.calibration.scoring_config)
    known, pairs = model.calibration, list(scans_of(out, "test", change))
    assert known is not None
    healthy = [model.score(scan) for scan, _ in pairs]
    lesion = [model.score(scan).score for _, scan in pairs if scan is not None]
    site, network = ([], []), float("nan")
    if not recalibrate:
        site, network = told(out, model, change, arm == "A", [scan for scan, _ in pairs])
    return Found(
        site, network, [one.p_value is not None for one in healthy],
        [one.score for one in healthy], lesion, [known.p_value(one.score) for one in healthy],
        [known.p_value(score) for score in lesion],
    )  # fmt: skip


def told(
    out: Path, model: Model, change: Change, floor: bool, test: list[Volume]
) -> tuple[tuple[list[float], list[float]], float]:
    """Two classifiers, trained on the training scans, of the site of the test scans.

    A regression on texture and histograms of the brain, and a network on its central 32 voxels.
    As a floor, halves of site A are told apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def prepared(scans: list[Volume]) -> Tensor:
        return torch.stack([model.prepare(scan).volume for scan in scans])

    def read(folder: str) -> list[Volume]:
        return [Volume.load(path) for path in sorted((out / folder).glob("*.nii.gz"))]

    first, first_test = prepared(read("siteA")), prepared(read("test"))
    if floor:
        sets = [first[::2], first[1::2], first_test[::2], first_test[1::2]]
    else:
        second = prepared([change(scan) for scan in read("siteB")])
        sets = [first, second, first_test, prepared(test)]
    a, b, a_test, b_test = map(site_features, sets)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    regression.fit(np.concatenate([a, b]), [0] * len(a) + [1] * len(b))
    found = [regression.predict_proba(part)[:, 1].tolist() for part in (a_test, b_test)]
    centres = [part[:, :, 8:40, 16:48, 8:40].contiguous() for part in sets]
    network = separability(*centres, seed=0, steps=150, batch=8, bf16=False)
    return (found[0], found[1]), network


def site_features(volumes: Tensor) -> np.ndarray:
    """Regional brightness and texture, and the histogram of the brain."""
    histograms = [torch.histc(v[v > -1], 24, -1, 1) / (v > -1).sum() for v in volumes]
    return torch.cat([band_features(volumes), torch.stack(histograms)], dim=1).numpy()


def table(out: Path) -> None:
    """Prints all arms that were measured, and differences from site B as it is."""
    arms = {p.stem: Found(**json.loads(p.read_text())) for p in sorted(out.glob("*.json"))}
    head = ["arm", "site: regression", "network", "not comparable"]
    head += [f"{kind} at {rate:.2f}" for kind in ("false alarms", "power") for rate in RATES]
    rows = []
    for name, found in arms.items():
        cells = [_auroc(*map(np.array, found.site)) if found.site[0] else np.nan, found.network]
        texts = [f"{cell:.2f}" if np.isfinite(cell) else "" for cell in cells]
        texts.append(f"{found.comparable.count(False)} of {len(found.comparable)}")
        for values in (found.healthy_p, found.lesion_p):
            for rate in RATES:
                count = sum(p <= rate + 1e-12 for p in values)
                share, low, high = proportion(count, len(values))
                texts.append(f"{share:.2f} ({low:.2f} to {high:.2f})")
        rows.append([name, *texts, f"{_auroc(*_scores(found).T):.2f}"])
    print(markdown_table([*head, "AUROC of lesions"], rows))
    print(markdown_table(["arm minus B", "false alarms at 0.10", "AUROC of lesions"], [
        [name, _alarms(arms["B"], found), _difference(arms["B"], found)]
        for name, found in arms.items() if name != "B"
    ]))  # fmt: skip


def _scores(found: Found) -> np.ndarray:
    return np.stack([found.healthy, found.lesion], axis=1)


def _auroc(negative: np.ndarray, positive: np.ndarray) -> float:
    difference = positive[:, None] - negative[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def _alarms(first: Found, second: Found) -> str:
    """Difference of false alarms at 0.10, paired by subject."""
    before, after = (np.array(found.healthy_p) <= RATES[1] + 1e-12 for found in (first, second))
    value, low, high = by_subject(after.astype(float) - before)
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _difference(first: Found, second: Found) -> str:
    """Difference of the AUROC of lesions, paired by subject."""
    before, after = (_scores(found)[None] for found in (first, second))
    found = paired_difference(before, after, lambda rows: _auroc(rows[:, 0], rows[:, 1]))
    value, low, high = found.interval
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


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
        out, arm = Path(given.given[0]), given.given[1]
        found = measure(out, arm, given.model, given.recalibrate)
        name = f"{arm}, recalibrated" if given.recalibrate else arm
        (out / f"{name}.json").write_text(json.dumps(asdict(found)))
    else:
        table(Path(given.given[0]))


if __name__ == "__main__":
    main()
