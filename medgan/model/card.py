"""The model card: what a model is, where it comes from, what it is not for."""

from collections.abc import Sequence
from typing import Any

from medgan.anomaly.calibration import Calibration
from medgan.core.config import Preprocessing

SUMMARY = (
    "A volumetric GAN of healthy anatomy. It makes synthetic scans and scores how unusual a scan "
    "is among healthy ones."
)
SCORES = (
    "A model of healthy anatomy. It scores how unusual a scan is among healthy ones, and shows "
    "what the scan would look like if it were healthy."
)
"""The summary of a model that has neither generator nor translator."""
TRANSLATES = (
    "A network that makes one image of another, trained on patches of whole scans. What it makes "
    "is synthetic: it shows what such an image usually looks like, not what this patient has."
)
"""The summary of a model that has a translator."""
USE = "Research use only. Not a medical device; not for diagnosis or treatment."
SCORE_LIMITS = (
    "Scores hold for scans like the calibration scans: same scanner, protocol, population.",
    "A low p-value says unusual, not ill; a high one does not exclude disease.",
)
LIMITS = (
    *SCORE_LIMITS,
    "Synthetic scans can resemble training scans: treat the model as patient data until an audit "
    "has passed (medgan audit).",
)
TRANSLATOR_LIMITS = (
    "Images hold for scans like the training scans: same kind of scanner, protocol, population.",
    "What the source does not show is made to look usual: disease may vanish, or appear.",
    "Images can resemble training scans: treat the model as patient data.",
)


def described(config: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What a model is in a sentence or two, and what to mind, from its folder's config.json."""
    if config.get("translator"):
        return TRANSLATES, TRANSLATOR_LIMITS
    if not config.get("generator", True):
        return SCORES, (*SCORE_LIMITS, "It is learned from scans: treat the model as patient data.")
    return SUMMARY, LIMITS


def model_facts(
    grid: Preprocessing, calibration_scans: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """What a notebook shows of a model, name to value.

    Args:
        grid: the model's.
        calibration_scans: how many it is calibrated with, 0 before.
        facts: where the model comes from.
    """
    shape, spacing = " x ".join(map(str, grid.shape)), " x ".join(f"{s:g}" for s in grid.spacing)
    intensities = _intensity_text(grid)
    if grid.holds_ct:
        windows = " and ".join(f"{low:g} to {high:g} HU" for low, high in grid.window)
        intensities += f", {windows}"
    return {
        "grid": f"{shape} voxels of {spacing} mm",
        "channels": ", ".join(grid.channels) if len(grid.channels) > 1 else "",
        "intensities": intensities,
        "labels": ", ".join(map(str, grid.labels)),
        "conditions": ", ".join(condition.name for condition in grid.conditions),
        "calibrated": f"on {calibration_scans} healthy scans" if calibration_scans else "not yet",
        **{name.replace("_", " "): value for name, value in facts.items()},
    }


def card_facts(
    config: dict[str, Any],
    calibration_scans: int,
    scorers: Sequence[str],
    adjusted: Sequence[str] = (),
) -> dict[str, str]:
    """What a model folder says of its model, name to value.

    Args:
        config: what the folder's config.json holds.
        calibration_scans: how many it is calibrated with, 0 before.
        scorers: whose maps it combines.
        adjusted: covariates that scores are adjusted for.
    """
    grid, known = config["preprocessing"], Preprocessing.model_validate(config["preprocessing"])
    size = " x ".join(str(n) for n in grid["shape"])
    spacing = " x ".join(f"{s:g}" for s in grid["spacing"])
    facts = {
        "Trained with": f"medgan {config['medgan']}",
        "Grid": f"{size} voxels of {spacing} mm, RAS+, {_intensity_text(known)} intensities",
        "Labels learned": ", ".join(str(v) for v in grid["labels"]) or "none",
    }
    if len(known.channels) > 1:
        facts["Image channels"] = ", ".join(known.channels)
    if grid["conditions"]:
        facts["Conditions"] = "; ".join(map(_condition_text, grid["conditions"]))
    facts |= {
        name.replace("_", " ").capitalize(): str(fact) for name, fact in config["facts"].items()
    }
    if conversion := config.get("translator"):
        made = " + ".join(conversion["source"]), " + ".join(conversion["target"])
        return facts | {"Task": f"{conversion['task']}, {made[0]} to {made[1]}"}
    if not calibration_scans:
        return facts | {"Calibration": "none; the model cannot score yet"}
    smallest = f"{1 / (calibration_scans + 1):.3g}"
    facts |= {
        "Calibration": f"{calibration_scans} healthy scans; the smallest p-value is {smallest}",
        "Scorers": ", ".join(scorers),
    }
    return facts | ({"Scores adjusted for": ", ".join(adjusted)} if adjusted else {})


def card_text(config: dict[str, Any], calibration: Calibration | None) -> str:
    """Markdown for a model folder's card.

    Args:
        config: what the folder's config.json holds.
        calibration: of the model, if it has one.
    """
    count, scorers, adjusted = 0, (), ()
    if calibration is not None:
        count, scorers = len(calibration.scores), calibration.scoring_config.scorers
        adjusted = calibration.adjusts
    found = card_facts(config, count, scorers, adjusted)
    facts = [f"- {name}: {value}" for name, value in found.items()]
    summary, limited = described(config)
    limits = [f"- {limit}" for limit in limited]
    parts = ["# Model card", summary, f"**{USE}**", "\n".join(facts), "## Limits"]
    return "\n\n".join([*parts, "\n".join(limits)]) + "\n"


def _intensity_text(grid: Preprocessing) -> str:
    """MRI or CT; with several channels of both kinds, that of each."""
    kinds = {channel: grid.intensity_of(channel).upper() for channel in grid.channels}
    if len(set(kinds.values())) == 1:
        return kinds[grid.channels[0]]
    return ", ".join(f"{kind} ({channel})" for channel, kind in kinds.items())


def _condition_text(condition: dict[str, Any]) -> str:
    """A condition with the range or the categories that were trained on."""
    if condition["kind"] == "text":
        seen = f"sentences, {len(condition['values'])} words and negated words"
    elif condition["kind"] == "periodic":
        seconds = f" of {condition['cycle']:g} s" if condition.get("cycle") else ""
        seen = f"share of a cycle{seconds}"
    elif condition["kind"] == "continuous":
        seen = "{:g} to {:g}".format(condition["quantiles"][0], condition["quantiles"][-1])
    else:
        shares = zip(condition["values"], condition["shares"], strict=True)
        seen = ", ".join(f"{value} {share:.0%}" for value, share in shares)
    return f"{condition['name']} ({seen})"
