"""Curves of two sets of volumes, for plots."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medgan.evaluation.sets.description import Description
from medgan.evaluation.sets.fidelity import Extrapolation, frechet_extrapolated, frequencies
from medgan.evaluation.sets.metrics import extrapolation_sizes, frechet_features, halves

_QUANTILES = 64
_DRAWS = 10


def curves(
    real: Description,
    synthetic: Description,
    subjects: Sequence[str],
    size: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    seed: int,
) -> dict[str, Any]:
    """Spectra, histograms, volumes and the Fréchet distance over 1 / n of two sets.

    Args:
        real: all real volumes.
        synthetic: all synthetic volumes.
        subjects: of each real volume.
        size: volumes of every set whose Fréchet distance is measured.
        shape: of the volumes.
        spacing: mm along the three axes.
        seed: of the splits.
    """
    shares = torch.linspace(0, 1, _QUANTILES, device="cpu")
    found: dict[str, Any] = {
        "frequencies": [round(f, 5) for f in frequencies(shape, spacing)],
        "structures": list(real.structures),
        "frechet": _frechet_curves(real, synthetic, subjects, size, seed),
    }
    for name, part in (("real", real), ("synthetic", synthetic)):
        found[name] = {
            "spectrum": _bands(part.spectra),
            "histogram": _bands(part.histograms.unflatten(1, (-1, 4)).sum(dim=2)),
            "volumes": _listed(torch.quantile(part.sizes, shares, dim=0).T),
        }
    return found


def _frechet_curves(
    real: Description, synthetic: Description, subjects: Sequence[str], size: int, seed: int
) -> dict[str, Any]:
    """Fréchet distance by the number of scans, means over random splits."""
    random = torch.Generator().manual_seed(seed)
    sizes = extrapolation_sizes(size)
    found: dict[str, list[Extrapolation]] = {"real": [], "synthetic": []}
    for number in range(_DRAWS):
        first, second = (half[:size] for half in halves(subjects, random))
        chosen = torch.randperm(len(synthetic), generator=random)[:size]
        for name, other in (("real", real.part(second)), ("synthetic", synthetic.part(chosen))):
            pair = frechet_features(real.part(first), other)
            found[name].append(frechet_extrapolated(*pair, sizes, seed=seed + number))
    return {
        name: {
            "sizes": sizes,
            "values": _listed(torch.tensor([one.values for one in some], device="cpu").mean(dim=0)),
            "at_infinity": round(sum(one.at_infinity for one in some) / len(some), 4),
        }
        for name, some in found.items()
    }


def _bands(rows: Tensor) -> dict[str, list[float]]:
    """Mean and the middle 90% over volumes."""
    low, high = torch.quantile(rows, rows.new_tensor([0.05, 0.95]), dim=0)
    return {"mean": _listed(rows.mean(dim=0)), "low": _listed(low), "high": _listed(high)}


def _listed(values: Tensor) -> Any:  # noqa: ANN401 - nested as the tensor is
    return [
        [float(f"{v:.5g}") for v in row] if isinstance(row, list) else float(f"{row:.5g}")
        for row in values.tolist()
    ]
