"""The page of a sweep: its trials, and their figures over the settings and over the training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medgan.reporting.plot import Plot, Point, curve, scatter
from medgan.reporting.template import render

MOST_CURVES = 24
"""Most trials whose course is shown, the best ones."""


def sweep_page(result: Mapping[str, Any]) -> str:
    """The page.

    Args:
        result: the content of sweep.json.
    """
    metric = result["metric"]
    done = [row for row in result["trials"] if metric in row["figures"]]
    shown = [row for row in done[:MOST_CURVES] if len(row["evaluations"]) > 1]
    values = [value for row in shown for _, value in row["evaluations"] if math.isfinite(value)]
    span = (min(values), max(values)) if values else None
    curves = [_course(row, span) for row in shown]
    counts = {
        state: sum(row["state"] == state for row in result["trials"])
        for state in dict.fromkeys(row["state"] for row in result["trials"])
    }
    return render(
        "sweep.html.j2", result=result, counts=counts, curves=curves,
        plots=[_over(key, done, metric, result["best"]) for key in result["varied"]],
    )  # fmt: skip


def _over(
    key: str, rows: Sequence[Mapping[str, Any]], metric: str, best: Mapping[str, Any] | None
) -> Plot:
    """The figure of each trial over one setting; the best one is marked."""
    points = []
    for row in rows:
        kind = "best" if best and row["trial"] == best["trial"] else row["state"].partition(" ")[0]
        text = f"trial {row['trial']}, {row['state']}: {metric} {row['figures'][metric]:.4g}"
        points.append(Point(row["settings"][key], row["figures"][metric], kind, text))
    return scatter(metric.replace("_", " "), points, key)


def _course(row: Mapping[str, Any], span: tuple[float, float] | None) -> Plot:
    volumes, values = zip(*row["evaluations"], strict=True)
    title = f"trial {row['trial']}, {row['state']}"
    return curve(title, volumes, values, "volumes seen", span=span)
