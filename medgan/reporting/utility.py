"""The page of a utility study."""

import tempfile
from pathlib import Path
from typing import Any

from medgan.core.files import write_atomic
from medgan.reporting.charts import draw_utility
from medgan.reporting.template import picture, render


def write_utility_page(page: Path, result: dict[str, Any], baseline: str) -> None:
    """Writes one self-contained page: verdict, charts, table, protocol.

    Args:
        page: the HTML file.
        result: rows and protocol, as in utility.json.
        baseline: the arm that others are compared with.
    """
    rows = result["rows"]
    names = list(rows[0]["figures"])
    charts = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            path = Path(temporary) / "chart.png"
            draw_utility(path, rows, name, baseline)
            charts.append({"name": name, "image": picture(path.read_bytes())})
    values = {
        "charts": charts, "rows": rows, "names": names, "baseline": baseline,
        "protocol": result["protocol"], "verdicts": verdicts(rows, names[0], baseline),
    }  # fmt: skip
    write_atomic(page, render("utility.html.j2", **values))


def verdicts(rows: list[dict[str, Any]], name: str, baseline: str) -> list[str]:
    """What the figures say of every arm with synthetic scans, a sentence each."""
    sentences = []
    for row in rows:
        figure = row["figures"][name]
        if "difference" not in figure or not row["synthetic"]:
            continue
        gap, sign = figure["difference"], 1 if figure["better"] == "higher" else -1
        low, high = sorted((sign * gap["low"], sign * gap["high"]))
        found = "no better and no worse, as far as this can tell"
        if low > 0:
            found = "better"
        elif high < 0:
            found = "worse"
        sentences.append(
            f"With {row['size']} real scans, {row['arm']} was {found} than {baseline} alone: "
            f"{name} {gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})."
        )
    return sentences
