"""False alarms by age, sex and scanner, before and after calibration that knows of them.

Writes the tables of docs/explanation/calibration.md, "Age and sex" and "Another scanner".

    python docs/scripts/site_and_age.py                                      # simulated scores
    python docs/scripts/site_and_age.py DATA zoo/ixi-brain --splits SPLITS   # and real scans
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medgan.anomaly.adjustment import Kind, fit_adjustment
from medgan.anomaly.calibration import ScoringConfig, calibrate, conformal_p_value
from medgan.anomaly.context import ScoringContext
from medgan.anomaly.maps import top_mean
from medgan.anomaly.scorers import make_maps
from medgan.anomaly.statistics import floored
from medgan.core.tables import markdown_table
from medgan.core.volume import Volume
from medgan.data.conditions import Value
from medgan.data.groups import age_of, groups_of
from medgan.data.index import index
from medgan.data.manifest import Case
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case
from medgan.data.splits import read_splits, with_given_splits
from medgan.evaluation.interval import by_subject, proportion
from medgan.model.anomaly import scoring_networks
from medgan.model.inversion import batch_of
from medgan.model.model import Model

RATES = (0.05, 0.10)
AGE: dict[str, Kind] = {"age": "continuous"}
BOTH: dict[str, Kind] = {"age": "continuous", "sex": "categorical"}
ADJUSTED: dict[str, dict[str, Kind]] = {"nothing": {}, "age": AGE, "age and sex": BOTH}
HALVES, DRAWS, SITE = 200, 100, 20
"""Random halves; random calibration sets of the young; scans that calibrate another scanner."""
HEAD = [f"alarms at {rate:.2f}" for rate in RATES]


class Scored(NamedTuple):
    """Healthy scans that nothing was trained on: cases, and maps (N, 1, X, Y, Z) by scorer."""

    cases: list[Case]
    maps: dict[str, Tensor]

    def p_values(self, own: np.ndarray, fresh: np.ndarray, kinds: Mapping[str, Kind]) -> np.ndarray:
        """Of fresh scans by a calibration on others, both given by number."""
        config = ScoringConfig(tuple(self.maps), covariates=kinds)
        rows = [self.cases[n].covariates for n in own]
        known = calibrate({name: m[own] for name, m in self.maps.items()}, config, rows)
        scores = known.score({name: m[fresh] for name, m in self.maps.items()})[0].tolist()
        pairs = zip(scores, fresh, strict=True)
        adjusted = (known.adjusted(score, self.cases[n].covariates) for score, n in pairs)
        return np.array([known.p_value(score) for score in adjusted])


@torch.inference_mode()
def read(model: Model, cases: Sequence[Case], scorers: Sequence[str]) -> Scored:
    """Some of the model's scorers on each case."""
    networks, collected = scoring_networks(model), dict[str, list[Tensor]]()
    for case in cases:
        context = ScoringContext(batch_of(model, model.prepare(read_case(case, False))), networks)
        for name, found in make_maps(context, tuple(scorers)).items():
            collected.setdefault(name, []).append(found)
    return Scored(list(cases), {name: torch.cat(parts) for name, parts in collected.items()})


def halves(scans: Scored) -> Iterator[list[object]]:
    """Random halves calibrate, the others are tested: rates of all and by group."""
    count, rng = len(scans.cases), np.random.default_rng(0)
    orders = [rng.permutation(count) for _ in range(HALVES)]
    groups = [groups_of(case.covariates) for case in scans.cases]
    for name, kinds in ADJUSTED.items():
        found = np.full((HALVES, count), np.nan)
        for one, order in enumerate(orders):
            own, fresh = np.split(order, [count // 2])
            found[one, fresh] = scans.p_values(own, fresh, kinds)
        for group in ["all", *sorted({group for of in groups for group in of})]:
            some = [n for n, of in enumerate(groups) if group in ("all", *of)]
            yield [name, group, len(some), *_rates(found[:, some])]


def young_for_old(scans: Scored) -> Iterator[list[object]]:
    """Calibrated on scans of people under 45, tested on those over 60."""
    ages = np.array([age_of(case.covariates) or np.nan for case in scans.cases])
    young, old = np.flatnonzero(ages < 45), np.flatnonzero(ages > 60)
    rng = np.random.default_rng(0)
    draws = [rng.permutation(young)[:SITE] for _ in range(DRAWS)]
    for name, kinds in ADJUSTED.items():
        found = np.stack([scans.p_values(own, old, kinds) for own in draws])
        yield [name, f"{SITE} of {len(young)} under 45", f"{len(old)} over 60", *_rates(found)]


def _rates(p_values: np.ndarray) -> list[str]:
    """Shares of alarms, (repeats, scans), with a bootstrap interval over scans."""
    cells = []
    for rate in RATES:
        alarms = np.where(np.isnan(p_values), np.nan, p_values <= rate + 1e-12)
        value, low, high = by_subject(np.nanmean(alarms, axis=0))
        cells.append(f"{value:.3f} ({low:.3f} to {high:.3f})")
    return cells


def alternatives(scans: Scored) -> Iterator[list[object]]:
    """What else age might do: its square, and the mean of maps at each position given age.

    Correlations of leave-one-out scores with age, and leave-one-out errors of their regression.
    """
    known = [n for n, case in enumerate(scans.cases) if age_of(case.covariates) is not None]
    age = np.array([age_of(scans.cases[n].covariates) for n in known], float)
    years = (age - age.mean()) / age.std()
    ones = np.ones_like(years)
    for name, maps in scans.maps.items():
        for title, columns in (("as they are", [ones]), ("means given age", [ones, years])):
            scores = _left_out(maps[known].double(), np.stack(columns, 1), name == "localiser")
            errors = [
                _error(scores, np.stack(part, 1))
                for part in ([ones], [ones, years], [ones, years, years**2])
            ]
            correlation = np.corrcoef(scores, age)[0, 1]
            yield [name, title, *(f"{value:.3f}" for value in (correlation, *errors))]


def _left_out(maps: Tensor, columns: np.ndarray, even: bool) -> np.ndarray:
    """Scores of scans, each by the regression of all other maps on the columns; standardised."""
    known, found = torch.from_numpy(columns), []
    for one in range(len(maps)):
        others = torch.arange(len(maps)) != one
        fit = torch.linalg.pinv(known[others]) @ maps[others].flatten(1)
        residuals = maps[others].flatten(1) - known[others] @ fit
        spread = (residuals.square().sum(0) / (len(maps) - 1 - columns.shape[1])).sqrt()
        shape = maps.shape[1:]
        mean, spread = (v.float().view(shape) for v in (known[one] @ fit, spread))
        standard = floored(mean, spread, even).standardise(maps[one : one + 1].float())
        found.append(float(top_mean(standard, ScoringConfig(()).top_fraction)))
    return (np.array(found) - np.mean(found)) / np.std(found, ddof=1)


def _error(scores: np.ndarray, columns: np.ndarray) -> float:
    """Root mean square of leave-one-out residuals."""
    hat = columns @ np.linalg.pinv(columns)
    return float(np.sqrt((((scores - hat @ scores) / (1 - hat.diagonal())) ** 2).mean()))


def another_scanner(volume: Volume, seed: int) -> Volume:
    """The same brain as another scanner might show it: gamma, bias field, blur and noise.

    Args:
        volume: MRI without skull, 0 outside.
        seed: of the noise.
    """
    rng, data = np.random.default_rng(seed), volume.data.astype(np.float32)
    inside = data > 0
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij")
    changed = (data / np.percentile(data[inside], 99.5)) ** 1.5
    changed = gaussian_filter(changed * np.exp(0.4 * places[0] + 0.2 * places[1]), 0.5)
    changed = np.abs(changed + 0.05 * rng.standard_normal(data.shape))
    return volume.like(np.where(inside, np.maximum(1000 * changed, 1), 0).astype(np.float32))


def scanners(model: Model, cases: Sequence[Case]) -> Iterator[list[object]]:
    """The test scans on their own scanner and on another, before and after calibration on it.

    After: two thirds calibrate and a third is tested, three times, so that each is tested once.
    """
    own = [read_case(case, False).volumes[0] for case in cases]
    other = [another_scanner(volume, seed) for seed, volume in enumerate(own)]
    for name, scans in (("its own", own), ("another", other)):
        yield [name, "before", *_alarms([model.score(scan).p_value for scan in scans])]
    assert model.calibration is not None
    config = model.calibration.scoring_config
    p_values = []
    for fold in range(3):
        model.calibrate([scan for n, scan in enumerate(other) if n % 3 != fold], config)
        p_values += [model.score(scan).p_value for scan in other[fold::3]]
    yield ["another", f"after, on {len(other) * 2 // 3} of its scans", *_alarms(p_values)]


def _alarms(p_values: Sequence[float | None]) -> list[str]:
    known = [p for p in p_values if p is not None]
    cells = [f"{len(p_values) - len(known)} of {len(p_values)}"]
    for rate in RATES:
        count = sum(p <= rate + 1e-12 for p in known)
        _, low, high = proportion(count, len(known))
        cells.append(f"{count} of {len(known)} ({low:.2f} to {high:.2f})")
    return cells


Ages = tuple[float, float]


def simulated(repeats: int = 4000) -> Iterator[list[object]]:
    """Normal scores that rise by `slope` standard deviations in 15 years; men have 0.5 more."""
    everyone, young, old = (20.0, 75.0), (20.0, 45.0), (60.0, 80.0)
    for count in (20, 30):
        for slope, calibrated, tested in (
            (0.0, everyone, everyone), (0.7, everyone, everyone), (0.7, young, old),
        ):  # fmt: skip
            rng = np.random.default_rng(0)
            draw = _drawer(rng, slope)
            found = np.array(
                [_p_values(draw(count, calibrated), draw(10, tested)) for _ in range(repeats)]
            )
            for n, name in enumerate(("nothing", "age and sex")):
                shares = [(found[:, n] <= rate + 1e-12).mean() for rate in RATES]
                where = ("20 to 75", "20 to 75") if tested == everyone else ("20 to 45", "60 to 80")
                yield [count, slope, *where, name, *(f"{share:.3f}" for share in shares)]


Drawn = tuple[np.ndarray, list[dict[str, Value]]]


def _drawer(rng: np.random.Generator, slope: float) -> Callable[[int, Ages], Drawn]:
    def draw(count: int, ages: Ages) -> Drawn:
        age, sex = rng.uniform(*ages, count), rng.integers(0, 2, count)
        scores = slope * (age - 45) / 15 + 0.5 * sex + rng.standard_normal(count)
        return scores, [{"age": a, "sex": "FM"[s]} for a, s in zip(age, sex, strict=True)]

    return draw


def _p_values(healthy: Drawn, fresh: Drawn) -> list[list[float]]:
    centre = float(healthy[0].mean())
    own, new = (healthy[0] - centre).tolist(), (fresh[0] - centre).tolist()
    adjustment, residuals = fit_adjustment(own, healthy[1], BOTH)
    assert adjustment is not None
    adjusted = [adjustment(score, row) for score, row in zip(new, fresh[1], strict=True)]
    return [
        [conformal_p_value(score, scores) for score in values]
        for values, scores in ((new, own), (adjusted, residuals))
    ]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--splits", type=Path)
    given = parser.parse_args()
    logging.disable()
    torch.set_num_threads(1)
    head = ["calibration scans", "slope", "their ages", "ages tested", "adjusted for", *HEAD]
    print(markdown_table(head, list(simulated())))
    if not given.data:
        return
    pseudonyms, source = Pseudonyms(b"site and age"), Path(given.data)
    manifest, _ = index(source, pseudonyms)
    manifest = with_given_splits(manifest, read_splits(given.splits, source), pseudonyms)
    model, test = Model.load(given.model), manifest.split("test")
    assert model.calibration is not None
    scorers = model.calibration.scoring_config.scorers
    every = read(model, [*manifest.split("calibration"), *test], sorted({*scorers, "density"}))
    scans = every._replace(maps={name: every.maps[name] for name in scorers})
    print(markdown_table(["adjusted for", "healthy scans", "number", *HEAD], list(halves(scans))))
    print(
        markdown_table(
            ["adjusted for", "calibrated on", "tested", *HEAD], list(young_for_old(scans))
        )
    )
    head = [
        "map",
        "its statistics",
        "correlation with age",
        "error without age",
        "age",
        "and square",
    ]
    print(markdown_table(head, list(alternatives(every))))
    head = ["scanner of the test scans", "calibration", "not comparable", *HEAD]
    print(markdown_table(head, list(scanners(model, test))))


if __name__ == "__main__":
    main()
