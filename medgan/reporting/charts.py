"""Charts of study results: rows in, PNG out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgan.reporting.slices import GREY, INK, LABEL_COLOURS, PANEL, PAPER, save_figure

_ROUND = [factor * ten for ten in (1, 10, 100) for factor in (1, 2, 5)]
"""Ticks of a logarithmic axis."""


def plot_utility(path: Path, rows: Sequence[dict[str, Any]], name: str, baseline: str) -> None:
    """Writes a PNG of one metric: trainings of each arm, and differences from the baseline.

    Args:
        path: the PNG.
        rows: of utility.json.
        name: of the metric.
        baseline: the arm of reference.
    """
    from matplotlib.figure import Figure

    sizes = sorted({row["size"] for row in rows})
    arms = list(dict.fromkeys(row["arm"] for row in rows))[::-1]
    height = 1.0 + 0.22 * len(arms) * len(sizes)
    figure = Figure(figsize=(9.5, height), facecolor=PAPER, layout="constrained")
    values, gaps = figure.subplots(1, 2, sharey=True)
    for row in rows:
        number = sizes.index(row["size"])
        position = arms.index(row["arm"]) + 0.7 * ((number + 0.5) / len(sizes) - 0.5)
        found, colour = row["metrics"][name], LABEL_COLOURS[number % len(LABEL_COLOURS)]
        values.plot(
            found["seeds"], [position] * len(found["seeds"]), "o", color=colour, ms=4, alpha=0.6
        )
        values.plot(found["mean"], position, "|", color=INK, ms=11, mew=1.6)
        if gap := found.get("difference"):
            gaps.plot([gap["low"], gap["high"]], [position, position], color=colour, lw=2)
            gaps.plot(found["differences"], [position] * len(found["differences"]), "o",
                      color=colour, ms=3, alpha=0.6)  # fmt: skip
            gaps.plot(gap["value"], position, "|", color=INK, ms=11, mew=1.6)
    gaps.axvline(0, color=GREY, lw=0.8, ls=":")
    values.set_title(f"{name} (dots: trainings, bars: means)", color=INK, fontsize=9)
    gaps.set_title(f"difference from {baseline}, 95% interval", color=INK, fontsize=9)
    for axes in (values, gaps):
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(-0.6, len(arms) - 0.4)
        axes.set_facecolor(PANEL)
        axes.tick_params(colors=INK, labelsize=8)
    if len(sizes) > 1:
        for number, size in enumerate(sizes):
            colour = LABEL_COLOURS[number % len(LABEL_COLOURS)]
            values.plot([], [], "o", color=colour, label=f"{size} real scans")
        legend = values.legend(fontsize=7, facecolor=PANEL, edgecolor=GREY)
        for text in legend.get_texts():
            text.set_color(INK)
    save_figure(figure, path)


def plot_scorers(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes a PNG of AUROC and average precision of scorers with intervals, best on top.

    Args:
        path: the PNG.
        rows: of detection.json.
    """
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row["average_precision"]["value"])
    figure = Figure(figsize=(9, 0.5 + 0.24 * len(rows)), facecolor=PAPER, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    chance = {"auroc": 0.5, "average_precision": rows[0]["prevalence"]}
    for axes, (key, title) in zip(
        panels, (("average_precision", "average precision"), ("auroc", "AUROC")), strict=True
    ):
        for position, row in enumerate(rows):
            interval, colour = row[key], LABEL_COLOURS[0] if row["own"] else GREY
            axes.plot([interval["low"], interval["high"]], [position, position], color=colour, lw=2)
            axes.plot(interval["value"], position, "o", color=colour, ms=4)
        axes.axvline(chance[key], color="#666666", lw=0.8, ls=":")
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_title(title, color=INK, fontsize=9)
        axes.set_facecolor(PANEL)
        axes.tick_params(colors=INK, labelsize=7)
    save_figure(figure, path)


def plot_convergence(
    path: Path,
    curves: Mapping[str, Sequence[Sequence[tuple[float, int, float]]]],
    goals: Sequence[float],
) -> None:
    """Writes a PNG of kernel distances over processor minutes, both axes logarithmic.

    Args:
        path: the PNG.
        curves: by generator, of each training (minutes, volumes, distance).
        goals: dashed lines.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(7.5, 4.2), facecolor=PAPER, layout="constrained")
    axes = figure.subplots()
    for number, (name, trainings) in enumerate(curves.items()):
        colour = LABEL_COLOURS[number % len(LABEL_COLOURS)]
        for seed, curve in enumerate(trainings):
            axes.plot(
                [minutes for minutes, _, _ in curve],
                [max(distance, 0.05) for _, _, distance in curve],
                "o-", color=colour, ms=3, lw=1.2, label=None if seed else name,
            )  # fmt: skip
    for goal in goals:
        axes.axhline(goal, color=GREY, lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, ticks in ((axes.xaxis, _ROUND), (axes.yaxis, [*goals, *_ROUND])):
        low, high = sorted(axis.get_view_interval())
        shown = [tick for tick in ticks if low <= tick <= high]
        axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("processor minutes of training", color=INK, fontsize=9)
    axes.set_ylabel("kernel distance to unseen scans", color=INK, fontsize=9)
    axes.set_facecolor(PANEL)
    axes.tick_params(colors=INK, labelsize=8)
    legend = axes.legend(fontsize=8, facecolor=PANEL, edgecolor=GREY)
    for text in legend.get_texts():
        text.set_color(INK)
    save_figure(figure, path)


def plot_ratios(path: Path, sections: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG of times beside those of medgan, a panel for each kind of work.

    Args:
        path: the PNG.
        sections: title and rows, of others.json; rows without a ratio are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    panels = [
        (one["title"], [row for row in one["rows"] if "ratio" in row][::-1]) for one in sections
    ]
    heights = [len(rows) + 1 for _, rows in panels]
    figure = Figure(figsize=(8.5, 0.6 + 0.27 * sum(heights)), facecolor=PAPER, layout="constrained")
    grid = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    values = [row["ratio"][key] for _, rows in panels for row in rows for key in ("low", "high")]
    low, high = min(values) / 1.6, max(values) * 2.2  # room for the numbers
    for axes, (title, rows) in zip(grid[:, 0], panels, strict=True):
        for position, row in enumerate(rows):
            ratio, own = row["ratio"], row["name"].startswith("medgan")
            colour = LABEL_COLOURS[0] if own else LABEL_COLOURS[1]
            axes.plot([ratio["low"], ratio["high"]], [position, position], color=colour, lw=2)
            axes.plot(ratio["value"], position, "o", color=colour, ms=5)
            axes.annotate(
                f"{ratio['value']:g}", (ratio["high"], position), (6, 0), va="center",
                textcoords="offset points", color=INK, fontsize=8,
            )  # fmt: skip
        axes.axvline(1, color=GREY, lw=0.8, ls=":")
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(title, color=INK, fontsize=9, loc="left")
        axes.set_facecolor(PANEL)
        axes.tick_params(colors=INK, labelsize=8)
    ticks = [factor * 10.0**ten for ten in range(-4, 6) for factor in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) > 10:
        shown = [tick for tick in shown if f"{tick:e}"[0] == "1"]
    grid[-1, 0].set_xticks(shown, [f"{tick:g}" for tick in shown])
    grid[-1, 0].set_xlabel("time, medgan = 1 (left of it: faster)", color=INK, fontsize=9)
    save_figure(figure, path)
