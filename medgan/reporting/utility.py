"""The page of a utility study."""

import tempfile
from pathlib import Path
from typing import Any

from medgan.core.files import write_atomic
from medgan.reporting.charts import plot_utility
from medgan.reporting.template import data_uri, render


def write_utility_page(page: Path, result: dict[str, Any], baseline: str) -> None:
    """Writes one self-contained page: conclusions, charts, table, protocol.

    Args:
        page: the HTML file.
        result: rows and protocol, as in utility.json.
        baseline: the arm of reference.
    """
    rows = result["rows"]
    names = list(rows[0]["metrics"])
    charts = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            path = Path(temporary) / "chart.png"
            plot_utility(path, rows, name, baseline)
            charts.append({"name": name, "image": data_uri(path.read_bytes())})
    values = {
        "charts": charts, "rows": rows, "names": names, "baseline": baseline,
        "protocol": result["protocol"], "conclusions": conclusions(rows, names[0], baseline),
    }  # fmt: skip
    write_atomic(page, render("utility.html.j2", **values))


def conclusions(rows: list[dict[str, Any]], name: str, baseline: str) -> list[str]:
    """One sentence for each arm with synthetic scans."""
    sentences = []
    for row in rows:
        metric = row["metrics"][name]
        if "difference" not in metric or not row["synthetic"]:
            continue
        gap, sign = metric["difference"], 1 if metric["better"] == "higher" else -1
        low, high = sorted((sign * gap["low"], sign * gap["high"]))
        found = "not significantly different from"
        if low > 0:
            found = "better than"
        elif high < 0:
            found = "worse than"
        sentences.append(
            f"With {row['size']} real scans, {row['arm']} was {found} {baseline} alone: "
            f"{name} {gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})."
        )
    return sentences
