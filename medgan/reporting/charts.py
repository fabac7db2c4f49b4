"""Charts of figures: rows in, PNG out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgan.reporting.pictures import LABEL_COLOURS

_INK, _PAPER, _FIELD, _GREY = "#e8e8e8", "#111111", "#1c1c1c", "#9a9a9a"


def draw_utility(path: Path, rows: Sequence[dict[str, Any]], name: str, baseline: str) -> None:
    """Writes a figure of every arm and training, and how far each arm is from the baseline.

    Args:
        path: the PNG.
        rows: of utility.json.
        name: of the figure drawn.
        baseline: the arm that others are compared with.
    """
    from matplotlib.figure import Figure

    sizes = sorted({row["size"] for row in rows})
    arms = list(dict.fromkeys(row["arm"] for row in rows))[::-1]
    height = 1.0 + 0.22 * len(arms) * len(sizes)
    figure = Figure(figsize=(9.5, height), facecolor=_PAPER, layout="constrained")
    values, gaps = figure.subplots(1, 2, sharey=True)
    for row in rows:
        number = sizes.index(row["size"])
        place = arms.index(row["arm"]) + 0.7 * ((number + 0.5) / len(sizes) - 0.5)
        found, colour = row["figures"][name], LABEL_COLOURS[number % len(LABEL_COLOURS)]
        values.plot(
            found["seeds"], [place] * len(found["seeds"]), "o", color=colour, ms=4, alpha=0.6
        )
        values.plot(found["mean"], place, "|", color=_INK, ms=11, mew=1.6)
        if gap := found.get("difference"):
            gaps.plot([gap["low"], gap["high"]], [place, place], color=colour, lw=2)
            gaps.plot(found["differences"], [place] * len(found["differences"]), "o",
                      color=colour, ms=3, alpha=0.6)  # fmt: skip
            gaps.plot(gap["value"], place, "|", color=_INK, ms=11, mew=1.6)
    gaps.axvline(0, color=_GREY, lw=0.8, ls=":")
    values.set_title(f"{name}: a dot a training, a bar the mean", color=_INK, fontsize=9)
    gaps.set_title(f"difference from {baseline}, 95% interval", color=_INK, fontsize=9)
    for axes in (values, gaps):
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(-0.6, len(arms) - 0.4)
        axes.set_facecolor(_FIELD)
        axes.tick_params(colors=_INK, labelsize=8)
    if len(sizes) > 1:
        for number, size in enumerate(sizes):
            colour = LABEL_COLOURS[number % len(LABEL_COLOURS)]
            values.plot([], [], "o", color=colour, label=f"{size} real scans")
        legend = values.legend(fontsize=7, facecolor=_FIELD, edgecolor=_GREY)
        for text in legend.get_texts():
            text.set_color(_INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=figure.get_facecolor())


def draw_scorers(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes AUROC and average precision of scorers with their intervals, best on top.

    Args:
        path: the PNG.
        rows: of detection.json.
    """
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row["average_precision"]["value"])
    figure = Figure(figsize=(9, 0.5 + 0.24 * len(rows)), facecolor=_PAPER, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    chance = {"auroc": 0.5, "average_precision": rows[0]["prevalence"]}
    for axes, (key, title) in zip(
        panels, (("average_precision", "average precision"), ("auroc", "AUROC")), strict=True
    ):
        for place, row in enumerate(rows):
            figures, colour = row[key], LABEL_COLOURS[0] if row["own"] else _GREY
            axes.plot([figures["low"], figures["high"]], [place, place], color=colour, lw=2)
            axes.plot(figures["value"], place, "o", color=colour, ms=4)
        axes.axvline(chance[key], color="#666666", lw=0.8, ls=":")
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_title(title, color=_INK, fontsize=9)
        axes.set_facecolor(_FIELD)
        axes.tick_params(colors=_INK, labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=figure.get_facecolor())
