"""The model card: what a model is, where it comes from, what it is not for."""

from typing import Any

from medgan.scoring.calibration import Calibration


def card_text(config: dict[str, Any], calibration: Calibration | None) -> str:
    """Markdown for a model folder's card.

    Args:
        config: what the folder's config.json holds.
        calibration: of the model, if it has one.
    """
    grid, facts = config["preprocessing"], config["facts"]
    size = " x ".join(str(n) for n in grid["shape"])
    spacing = " x ".join(f"{s:g}" for s in grid["spacing"])
    labels = ", ".join(str(v) for v in grid["labels"]) or "none"
    lines = [
        "# Model card",
        "",
        f"A volumetric GAN of healthy anatomy, trained with medgan {config['medgan']}. It makes",
        "synthetic scans and scores how unusual a scan is among healthy ones.",
        "",
        "**Research use only. Not a medical device; not for diagnosis or treatment.**",
        "",
        f"- Grid: {size} voxels of {spacing} mm, RAS+, {grid['intensity'].upper()} intensities",
        f"- Labels learned: {labels}",
    ]
    if grid["conditions"]:
        lines.append(f"- Conditions: {'; '.join(map(_condition_text, grid['conditions']))}")
    lines += [f"- {name.replace('_', ' ').capitalize()}: {facts[name]}" for name in facts]
    if calibration is None:
        lines.append("- Calibration: none; the model cannot score yet")
    else:
        count = len(calibration.scores)
        lines.append(
            f"- Calibration: {count} healthy scans; the smallest p-value is {1 / (count + 1):.3g}"
        )
        lines.append(f"- Scorers: {', '.join(calibration.recipe.scorers)}")
    lines += [
        "",
        "## Limits",
        "",
        "- Scores hold for scans like the calibration scans: same scanner, protocol, population.",
        "- A low p-value says unusual, not ill; a high one does not exclude disease.",
        "- Synthetic scans can resemble training scans: treat the model as patient data until",
        "  an audit has passed (medgan audit).",
        "",
    ]
    return "\n".join(lines)


def _condition_text(condition: dict[str, Any]) -> str:
    """A condition with the range or the categories that were trained on."""
    if condition["kind"] == "continuous":
        seen = "{:g} to {:g}".format(condition["quantiles"][0], condition["quantiles"][-1])
    else:
        shares = zip(condition["values"], condition["shares"], strict=True)
        seen = ", ".join(f"{value} {share:.0%}" for value, share in shares)
    return f"{condition['name']} ({seen})"
