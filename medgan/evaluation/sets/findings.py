"""The table of an evaluation: a metric of synthetic scans, that of real scans, a finding."""

from typing import Any

from medgan.core.tables import markdown_table
from medgan.evaluation.sets.metrics import Metric, MetricWithReference

Row = dict[str, Any]


def row(key: str, metric: Metric, found: MetricWithReference) -> Row:
    """A row of the table.

    Args:
        key: of the metric.
        metric: what was measured.
        found: its values.
    """
    numbers = {
        **found.synthetic._asdict(),
        "reference": found.real.value, "reference_low": found.real.low,
        "reference_high": found.real.high, "spread": found.spread,
    }  # fmt: skip
    return {
        "metric": key, "name": metric.name, "unit": metric.unit, "better": metric.better,
        **{name: float(f"{value:.5g}") for name, value in numbers.items()},
        "inside": inside(metric, found), "meaning": metric.meaning,
        "finding": finding(metric, found),
    }  # fmt: skip


def inside(metric: Metric, found: MetricWithReference) -> bool:
    """Whether a metric lies in the range of real scans, or is better."""
    value, real = found.synthetic.value, found.real
    return (value >= real.low or metric.better == "small") and (
        value <= real.high or metric.better == "large"
    )


def finding(metric: Metric, found: MetricWithReference) -> str:
    """Whether a metric lies in the range of real scans, or how far outside, in a sentence."""
    value, real = found.synthetic.value, found.real
    if inside(metric, found):
        if real.low <= value <= real.high:
            return "In the range of real scans."
        return "Better than other real scans: too typical, or copied."
    side = "Above" if value > real.high else "Below"
    if not found.spread:
        return f"{side} the range of real scans."
    far = abs(value - real.value) / found.spread
    return f"{side} the range of real scans: {far:.1f} standard deviations from their mean."


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    cells = [
        (
            f"{one['name']} ({one['unit']})" if one["unit"] else one["name"],
            f"{one['value']:.3g} ({one['low']:.3g} to {one['high']:.3g})",
            f"{one['reference']:.3g} ({one['reference_low']:.3g} to {one['reference_high']:.3g})",
            one["better"],
            one["finding"],
        )
        for one in rows
    ]
    return markdown_table(("metric", "synthetic (95%)", "real (95%)", "better", "finding"), cells)
