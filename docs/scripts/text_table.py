"""What sentences asked for and what came, of lung nodules, by judges of real ones.

python docs/scripts/text_table.py runs/nodule-text [validation]
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_gradient_magnitude
from scipy.spatial import ConvexHull
from scipy.stats import spearmanr
from skimage.measure import marching_cubes, mesh_surface_area
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medgan.data.batches import PreparedVolumes
from medgan.data.labels import decode_labels
from medgan.data.manifest import Case, Manifest
from medgan.evaluation.interval import Interval
from medgan.model.model import Model
from medgan.networks.channels import split_channels

EACH, CHOICES, RESAMPLES, SEED = 4, 20, 1000, 1
RATED = ("spiculation", "malignancy")
SHAPES = {1: "elongated", 2: "ovoid to linear", 3: "ovoid", 4: "ovoid to round", 5: "spherical"}
DEGREES = {1: "not {}", 2: "hardly {}", 3: "moderately {}", 4: "moderately {}", 5: "{}"}
SUSPICIONS = {
    1: "extremely unlikely malignant", 2: "moderately unlikely malignant", 3: "indeterminate",
    4: "moderately suspicious", 5: "extremely suspicious",
}  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """What was learned from real crops: ratings, and which caption fits.

    Attributes:
        regressors: features to a rating, by its name.
        words: captions to a few numbers.
        fit: features to these numbers.
    """

    regressors: dict[str, ExtraTreesRegressor]
    words: object
    fit: object

    @classmethod
    def of(cls, features: np.ndarray, cases: list[Case]) -> "Judge":
        """Learned from real crops and their captions."""
        regressors = {}
        for name in RATED:
            forest = ExtraTreesRegressor(500, min_samples_leaf=3, random_state=0)
            regressors[name] = forest.fit(features, column(cases, name))
        words = make_pipeline(
            CountVectorizer(ngram_range=(1, 2), binary=True, min_df=5, token_pattern=r"[a-z]+|\d+"),
            PCA(12, random_state=0), StandardScaler(),
        )  # fmt: skip
        known = words.fit_transform([as_words(case) for case in cases])
        fit = make_pipeline(StandardScaler(), Ridge(30.0)).fit(features, known)
        return cls(regressors, words, fit)

    def ranks(self, features: np.ndarray, captions: list[Case], right: np.ndarray) -> np.ndarray:
        """Rank of the right caption among 20, of each volume; 1 is best.

        Args:
            features: of the volumes.
            captions: cases whose captions are taken, of which no two say the same.
            right: which of them is the right one.
        """
        rng = np.random.default_rng(SEED)
        known = self.words.transform([as_words(case) for case in captions])
        found = self.fit.predict(features)
        ranks = []
        for one, own in zip(found, right, strict=True):
            others = rng.choice(np.delete(np.arange(len(captions)), own), CHOICES - 1, False)
            distances = ((known[[own, *others]] - one) ** 2).sum(axis=1)
            ranks.append(1 + int((distances[1:] < distances[0]).sum()))
        return np.array(ranks)


def as_words(case: Case) -> str:
    """A caption with its size in steps of a quarter, so that near sizes share words."""
    diameter = float(case.covariates["diameter_mm"])
    steps = np.arange(6, 41, 1)
    return (
        case.covariates["caption"].lower()
        + " "
        + " ".join(f"{step}" for step in steps if step <= diameter)
    )


def column(cases: list[Case], name: str) -> np.ndarray:
    """A rating or size of each case."""
    return np.array([float(case.covariates[name]) for case in cases])


def features_of(image: np.ndarray, mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Size, shape, brightness and margin of a nodule; the first is the largest axial diameter, mm.

    Args:
        image: (X, Y, Z) in [-1, 1].
        mask: (X, Y, Z), True in the nodule.
        spacing: mm.
    """
    if mask.sum() < 4:
        return np.full(22, np.nan)
    points = np.argwhere(mask) * spacing
    volume = mask.sum() * np.prod(spacing)
    surface = mesh_surface_area(
        *marching_cubes(np.pad(mask, 1).astype(float), 0.5, spacing=spacing)[:2]
    )
    axes = np.sqrt(np.linalg.eigvalsh(np.cov(points.T) + 0.1 * np.eye(3)))
    corners = np.concatenate([points + np.multiply(d, spacing) / 2 for d in np.eye(3)])
    corners = np.concatenate([corners, 2 * points.mean(axis=0) - corners])
    radii = np.linalg.norm(points - points.mean(axis=0), axis=1)
    rim = mask & ~binary_erosion(mask)
    near = binary_dilation(mask, iterations=2) & ~mask
    far = binary_dilation(mask, iterations=5) & ~binary_dilation(mask, iterations=2)
    gradient = gaussian_gradient_magnitude(image, 1.0)
    edge = radii[rim[mask]]
    return np.array(
        [
            diameter_of(mask, spacing), np.log(volume), np.cbrt(volume),
            np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface, surface / volume,
            volume / ConvexHull(corners).volume, *(axes / axes[-1])[:2], axes[-1],
            edge.std() / edge.mean(), image[mask].mean(), image[mask].std(),
            *np.quantile(image[mask], [0.1, 0.5, 0.9]), image[near].mean(), image[near].std(),
            image[far].mean(), image[far].std(), gradient[rim].mean(), gradient[near].mean(),
            gradient[near].std(),
        ]
    )  # fmt: skip


def diameter_of(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    """The largest extent of a mask in any axial slice, mm; 0 of an empty one."""
    largest = 0.0
    for number in range(mask.shape[2]):
        points = np.argwhere(mask[..., number]) * spacing[:2]
        if len(points):
            differences = points[:, None] - points[None]
            largest = max(largest, float(np.linalg.norm(differences, axis=2).max()) + spacing[0])
    return largest


def real_features(cases: list[Case], model: Model, folder: Path) -> np.ndarray:
    """Features of real crops on the model's grid."""
    volumes = PreparedVolumes(cases, model.preprocessing, folder)
    found = []
    for number in range(len(volumes)):
        image, label = volumes.arrays(number)
        found.append(features_of(image[0], label == 1, model.preprocessing.spacing))
    return np.array(found)


def generated_features(texts: list[str], model: Model, seed: int) -> np.ndarray:
    """Features of samples, `EACH` of each sentence one after the other."""
    found = []
    for number in range(len(texts) * EACH):
        latent = model.draw(seed, number, {"caption": texts[number // EACH]})
        image, soft = split_channels(model.channels(latent), 1)
        label = decode_labels(soft, model.preprocessing.labels, model.label_offset)
        found.append(features_of(image[0].numpy(), label.numpy() == 1, model.preprocessing.spacing))
    return np.array(found)


def paraphrase(case: Case) -> str:
    """The same in words and an order that no training caption has."""
    rated = {
        name: round(float(case.covariates[name]))
        for name in ("sphericity", "spiculation", "lobulation", "malignancy")
    }
    size = f"{float(case.covariates['diameter_mm']) / 10:.1f} cm"
    parts = (
        SUSPICIONS[rated["malignancy"]], DEGREES[rated["spiculation"]].format("spiculated"),
        DEGREES[rated["lobulation"]].format("lobulated"), SHAPES[rated["sphericity"]],
    )  # fmt: skip
    return f"Lung nodule: {', '.join(parts)}, {size}"


def correlation(asked: np.ndarray, found: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Spearman's, with an interval over resampled patients."""
    rng, names = np.random.default_rng(0), np.unique(groups)
    rows = [np.flatnonzero(groups == name) for name in names]
    resamples = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        resamples.append(spearmanr(asked[drawn], found[drawn]).statistic)
    value = spearmanr(asked, found).statistic
    return Interval.of_resamples(value, np.array(resamples)).rounded(2)


def shares(ranks: np.ndarray, groups: np.ndarray) -> dict[str, dict[str, float]]:
    """How often the right caption was first, and among the first five, of 20."""
    rng, names = np.random.default_rng(0), np.unique(groups)
    rows = [np.flatnonzero(groups == name) for name in names]
    found = {}
    for most in (1, 5):
        hits = ranks <= most
        resamples = [
            hits[np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])].mean()
            for _ in range(RESAMPLES)
        ]
        found[f"top {most}"] = Interval.of_resamples(hits.mean(), np.array(resamples)).rounded(2)
    return found


def judged(
    features: np.ndarray, cases: list[Case], judge: Judge, choices: list[Case], right: np.ndarray
) -> dict[str, object]:
    """All measurements of some volumes, and what was asked of each."""
    whole = ~np.isnan(features[:, 0])
    groups = np.array([case.subject for case in cases])[whole]
    kept, asked = features[whole], [case for case, ok in zip(cases, whole, strict=True) if ok]
    sizes = column(asked, "diameter_mm")
    found: dict[str, object] = {"volumes": len(cases), "without a nodule": int((~whole).sum())}
    found["diameter"] = correlation(sizes, kept[:, 0], groups)
    found["diameter, mean error in mm"] = round(float(np.abs(kept[:, 0] - sizes).mean()), 1)
    for name, forest in judge.regressors.items():
        found[name] = correlation(column(asked, name), forest.predict(kept), groups)
        partial = column(asked, name) - np.poly1d(np.polyfit(sizes, column(asked, name), 1))(sizes)
        found[f"{name}, beyond what size says"] = correlation(partial, forest.predict(kept), groups)
    return found | shares(judge.ranks(kept, choices, right[whole]), groups)


def measure(run: Path, split: str) -> dict[str, object]:
    """Real crops of a split, samples of their captions, of paraphrases and of none."""
    model, manifest = Model.load(run / "model"), Manifest.load(run / "manifest.json")
    train, test = manifest.split("train"), manifest.split(split)
    if split == "test":
        train = train + manifest.split("validation")
    judge = Judge.of(real_features(train, model, run / "judge"), train)
    choices = list({as_words(case): case for case in test}.values())
    places = {as_words(case): number for number, case in enumerate(choices)}
    right = np.array([places[as_words(case)] for case in test])
    result: dict[str, object] = {
        "real": judged(real_features(test, model, run / "judge"), test, judge, choices, right)
    }
    each = [case for case in test for _ in range(EACH)]
    sentences = {
        "captions": [case.covariates["caption"] for case in test],
        "paraphrases": [paraphrase(case) for case in test],
        "no caption": ["unknown"] * len(test),
    }
    for name, texts in sentences.items():
        features = generated_features(texts, model, SEED)
        result[name] = judged(features, each, judge, choices, right.repeat(EACH))
    learned = {case.covariates["caption"] for case in train}
    result["captions among those of training"] = sum(
        case.covariates["caption"] in learned for case in test
    )
    return result


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), (*sys.argv[2:], "test")[0]), indent=1))
