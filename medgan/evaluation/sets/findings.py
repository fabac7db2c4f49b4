"""What a figure beside that of real volumes says: a row, a sentence, a table."""

from typing import Any

from medgan.core.tables import markdown_table
from medgan.evaluation.sets.metrics import Figure, Standing

Row = dict[str, Any]


def row(key: str, figure: Figure, found: Standing) -> Row:
    """A row of the table.

    Args:
        key: of the figure.
        figure: what was measured.
        found: its values.
    """
    numbers = {name: float(f"{value:.5g}") for name, value in found._asdict().items()}
    return {
        "figure": key, "name": figure.name, "unit": figure.unit, "better": figure.better,
        **numbers, "inside": inside(figure, found), "meaning": figure.meaning,
        "verdict": verdict(figure, found),
    }  # fmt: skip


def inside(figure: Figure, found: Standing) -> bool:
    """Whether a figure lies in the range of real scans, or beyond its good end."""
    low_is_fine, high_is_fine = figure.better == "small", figure.better == "large"
    return (found.value >= found.floor_low or low_is_fine) and (
        found.value <= found.floor_high or high_is_fine
    )


def verdict(figure: Figure, found: Standing) -> str:
    """Whether a figure lies in the range of real scans, or how far outside, in a sentence."""
    if inside(figure, found):
        beyond = (figure.better == "small" and found.value < found.floor_low) or (
            figure.better == "large" and found.value > found.floor_high
        )
        if beyond:
            return "Better than other real scans: too typical, or copied."
        return "In the range of real scans."
    side = "Above" if found.value > found.floor_high else "Below"
    if not found.spread:
        return f"{side} the range of real scans."
    far = abs(found.value - found.floor) / found.spread
    return f"{side} the range of real scans: {far:.1f} standard deviations from their mean."


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    cells = [
        (
            f"{one['name']} ({one['unit']})" if one["unit"] else one["name"],
            f"{one['value']:.3g} ({one['low']:.3g} to {one['high']:.3g})",
            f"{one['floor']:.3g} ({one['floor_low']:.3g} to {one['floor_high']:.3g})",
            one["better"],
            one["verdict"],
        )
        for one in rows
    ]
    return markdown_table(("figure", "synthetic (95%)", "real (95%)", "better", "verdict"), cells)
