"""Report on translations: rows with intervals and differences from the model, tables, patients."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medgan.core.tables import markdown_table
from medgan.evaluation.interval import Interval, by_subject, paired_difference
from medgan.evaluation.translation.metrics import TranslationMetrics
from medgan.evaluation.translation.spread import FIFTHS, SpreadQuality
from medgan.evaluation.translation.summary import row

OWN = "model"
ONE = ", one answer"
"""After the name of a model: an answer with noise."""


class ChannelResult(NamedTuple):
    """What was found of one target channel.

    Attributes:
        unit: of the channel.
        limits: lowest and highest value, for PSNR and SSIM.
        cases: pseudonyms of the test patients.
        metrics: by method, one a test patient in the same order.
        judged: by method, AUROC of the judge for each patient.
        spread: one a test patient; none of a model with one answer.
    """

    unit: str
    limits: tuple[float, float]
    cases: list[str]
    metrics: Mapping[str, list[TranslationMetrics]]
    judged: Mapping[str, list[float]]
    spread: Sequence[SpreadQuality]


def summary(results: Mapping[str, ChannelResult]) -> dict[str, Any]:
    """Everything that is written of the target channels, and the tables as Markdown.

    Args:
        results: by target channel.
    """
    channels = {name: _channel(found) for name, found in results.items()}
    tables = [
        part
        for name, found in channels.items()
        for part in (_table(name, found), _spread_table(found))
        if part
    ]
    return {"channels": channels, "table": "\n\n".join(tables)}


def csv_rows(results: Mapping[str, ChannelResult]) -> list[dict[str, Any]]:
    """A row a patient, channel and method."""
    return [
        {"case": case, "channel": channel, "method": method, "unit": found.unit}
        | {name: _plain(value) for name, value in one._asdict().items()}
        for channel, found in results.items()
        for method, metrics in found.metrics.items()
        for case, one in zip(found.cases, metrics, strict=True)
    ]


def _channel(found: ChannelResult) -> dict[str, Any]:
    own = found.metrics[OWN]
    rows = []
    for name, metrics in found.metrics.items():
        one = row(name, metrics, None if name == OWN else own)
        if name in found.judged:
            one["judge_auroc"] = by_subject(np.array(found.judged[name])).rounded()
            if name != OWN:
                one["judge_ours_minus"] = _judge_difference(found, name)
        rows.append(one)
    return {
        "unit": found.unit, "limits": list(found.limits), "patients": len(found.cases),
        "rows": rows, "spread": _spread(found.spread),
    }  # fmt: skip


def _judge_difference(found: ChannelResult, name: str) -> dict[str, float]:
    first, second = (np.array(found.judged[n])[None, :, None] for n in (name, OWN))
    interval, p_value = paired_difference(first, second, lambda rows: float(rows.mean()))
    return {**interval.rounded(), "p_value": round(p_value, 4)}


def _spread(found: Sequence[SpreadQuality]) -> dict[str, Any] | None:
    """Means over patients."""
    if not found:
        return None
    fifths = np.array([one.error_by_fifth for one in found])
    values = {
        "coverage": by_subject(np.array([one.coverage for one in found])).rounded(),
        "error_by_fifth": [by_subject(fifths[:, n]).rounded() for n in range(FIFTHS)],
    }
    known = np.array([one.rank_correlation for one in found])
    if not np.isnan(known).all():
        values["rank_correlation"] = by_subject(known).rounded()
    return values


def _plain(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def _table(channel: str, found: Mapping[str, Any]) -> str:
    """Methods as rows, the smallest error first."""
    unit = found["unit"]
    low, high = found["limits"]
    head = [
        f"{channel}, {found['patients']} patients", f"MAE in the body ({unit})", "model minus it",
        "MAE in the tumour", "MAE outside of it", "bias in the tumour", "PSNR (dB)", "SSIM",
        "judge AUROC",
    ]  # fmt: skip
    lines = [
        [
            f"**{one['name']}**" if one["name"] == OWN else one["name"],
            _cell(one["metrics"].get("mae")),
            _cell(one.get("ours_minus", {}).get("mae")),
            _cell(one["metrics"].get("mae_tumour")),
            _cell(one["metrics"].get("mae_outside")),
            _cell(one["metrics"].get("bias_tumour")),
            _cell(one["metrics"].get("psnr")),
            _cell(one["metrics"].get("ssim")),
            _cell(one.get("judge_auroc")),
        ]
        for one in sorted(found["rows"], key=lambda one: one["metrics"]["mae"]["value"])
    ]
    note = f"PSNR and SSIM from {low:.3g} to {high:.3g} {unit}; a judge is best at 0.5."
    return f"{markdown_table(head, lines)}\n\n{note}"


def _spread_table(found: Mapping[str, Any]) -> str:
    """Error in the fifths of voxels with least to most spread."""
    spread = found["spread"]
    if spread is None:
        return ""
    names = ("least", "2nd", "3rd", "4th", "most")
    head = ["fifth of voxels by spread", *names, "error within twice the spread"]
    cells = [_cell(one) for one in spread["error_by_fifth"]]
    line = [f"MAE ({found['unit']})", *cells, _cell(spread["coverage"])]
    return markdown_table(head, [line])


def _cell(found: Mapping[str, float] | None) -> str:
    """A value and its interval, with four digits or two decimals."""
    if found is None:
        return ""
    value, low, high = (found[name] for name in Interval._fields)
    digits = 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
