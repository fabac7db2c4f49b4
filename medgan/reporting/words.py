"""What the page of a scan says in words: what drove its score, how rare it is, what is seen."""

from collections.abc import Mapping
from typing import Any, NamedTuple

SCORERS = {
    "residual": "difference from the reconstruction",
    "similarity": "structure unlike that of the reconstruction",
    "features": "difference from the reconstruction in the discriminator's features",
    "density": "brightness or texture unusual for the place",
    "discriminator": "the discriminator's features are unusual for the place",
    "localiser": "what a network that has learned planted lesions takes for one",
    "restoration": "difference from the restored scan",
    "darker": "darker than healthy scans at the place",
    "brighter": "brighter than healthy scans at the place",
    "ensemble": "difference from several reconstructions",
    "refined": "difference from a reconstruction fitted to the scan",
    "latent": "the scan as a whole is unusual",
    "reencoding": "the model reads its own reconstruction otherwise than the scan",
}
"""What each scorer measures."""
COUNTERPARTS = {
    "restored": "this scan with healthy tissue in place of what the model takes for a lesion",
    "reconstructed": "the healthy scan most like this one that the model can generate; it is "
    "smoother than any scan",
    "mean": "the mean of healthy scans, laid onto this one and in its intensities. It is not this "
    "patient's anatomy: its edges are soft, and folds lie elsewhere",
}
"""What a model takes for the healthy counterpart of a scan."""
_ALIKE = 0.02
"""Smallest difference that is told, as a share of the scan's range of intensities."""


class Driver(NamedTuple):
    """A scorer's part in a score.

    Attributes:
        name: of the scorer.
        meaning: what it measures.
        score: of its map, in healthy standard deviations.
    """

    name: str
    meaning: str
    score: float


def drivers(row: Mapping[str, Any]) -> list[Driver]:
    """The scorers of a row of scores.json, the highest first."""
    found = [Driver(name, text, float(row[name])) for name, text in SCORERS.items() if name in row]
    return sorted(found, key=lambda one: -one.score)


def rarity(p_value: float, healthy: int) -> str:
    """How many of the healthy calibration scans score as high as a scan.

    Args:
        p_value: conformal, of the scan.
        healthy: number of calibration scans.

    Example:
        >>> rarity(4 / 101, 100)
        '3 of 100 healthy scans score as high'
        >>> rarity(1 / 101, 100)
        'none of 100 healthy scans scores as high: rarer than about 1 in 100'
    """
    count = round(p_value * (healthy + 1)) - 1
    if count < 1:
        return f"none of {healthy} healthy scans scores as high: rarer than about 1 in {healthy}"
    return f"{count} of {healthy} healthy scans score{'s' if count == 1 else ''} as high"


def contrast(region: Mapping[str, Any], reach: float) -> str:
    """How bright a region is beside its healthy counterpart.

    Args:
        region: row of regions.csv.
        reach: range of the scan's intensities.

    Returns:
        Empty for results that do not tell it.

    Example:
        >>> contrast({"found": "412.3", "expected": "530"}, 800.0)
        'darker than expected, 412 instead of 530'
    """
    if not region.get("found") or not region.get("expected"):
        return ""
    found, expected = float(region["found"]), float(region["expected"])
    if abs(found - expected) < _ALIKE * reach:
        return "as bright as expected"
    word = "darker" if found < expected else "brighter"
    digits = 0 if reach > 20 else 2
    return f"{word} than expected, {found:.{digits}f} instead of {expected:.{digits}f}"
