"""medgan beside other programs, in one run: training step, loader, scoring."""

import importlib.metadata
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from medgan.app.device_check import machine
from medgan.app.pipeline_files import read_pipeline
from medgan.app.steps.scans import read_manifest
from medgan.core.config import Config, DataConfig, build
from medgan.core.errors import ConfigError, require_one_channel
from medgan.core.files import write_atomic
from medgan.core.tables import markdown_table
from medgan.core.threads import shared_cores
from medgan.data.batches import PreparedVolumes
from medgan.data.manifest import Case
from medgan.data.phantoms.data_set import make_data_set
from medgan.data.plan import plan
from medgan.data.splits import require_enough
from medgan.networks.device import choose_device, uses_bf16
from medgan.reporting.charts import plot_ratios
from medgan.reporting.others import others_page
from medgan.studies.speed.loaders import loaders
from medgan.studies.speed.scoring import scoring
from medgan.studies.speed.steps import training_steps
from medgan.studies.speed.turns import Row, measured

log = logging.getLogger(__name__)
JSON, PAGE, PLOT = "others.json", "others.html", "others.png"
_LIBRARIES = ("torch", "monai", "pytorch-ignite", "torchio", "anomalib")
_HEAD_MM = (192.0, 224.0, 192.0)
"""Field of view of a phantom."""
_FINER = 1.25
"""Voxels of a phantom's file for one of the grid, so that loaders have something to resample."""
_FEWEST = 8
"""Scans that are needed in any case."""


def compare_with_others(
    out: Path, preset: str, data: str = "", scans: int = 24, turns: int = 5, device: str = "auto"
) -> Row:
    """Measures the same work by several programs, and writes others.json, others.html, others.png.

    Args:
        out: receives the three files; caches are removed.
        preset: sizes of networks and grid, batch. Registration, skull stripping and conditions are
            left out, which the others do not have.
        data: scans; empty for phantoms on a grid of the preset's shape.
        scans: how many, the first ones.
        turns: of each program, one after the other.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        What others.json holds.

    Raises:
        ConfigError: E_USAGE for a preset that trains no generator of whole scans; E_CHANNEL.
        DataError: E_SPLIT with too few scans.
        EnvironmentFailure: E_DEVICE when CUDA is asked for and absent.
    """
    where, began = choose_device(device), time.monotonic()
    config, cores = _config(preset, device), shared_cores()
    before = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cases, settings = _scans(config.data, data, scans, folder)
        grid = plan(settings, cases)
        require_enough(cases, "all", max(_FEWEST, config.train.batch))
        volumes = PreparedVolumes(cases, grid, folder / "prepared")
        volumes.warm()
        cores.share()  # as before a training; with more threads than cores are free, all wait
        batch, cases = config.train.batch, list(volumes.cases)
        parts = {
            f"Training step, {batch} volumes": training_steps(config, volumes, grid, where),
            "Loader, a volume of the first pass": loaders(
                cases, grid, batch, folder / "first", first=True
            ),
            "Loader, a volume of a later pass": loaders(
                cases, grid, batch, folder / "later", first=False
            ),
            "Scoring, a prepared scan": scoring(config, volumes, grid, where),
        }
        sections = []
        for title, contenders in parts.items():
            log.info("%s", title)
            sections.append({"title": title, "rows": measured(contenders, turns, where)})
    found: dict[str, Any] = {
        "preset": preset, "data": "given scans" if data else "phantoms", "scans": len(cases),
        "shape": list(grid.shape), "spacing": [round(mm, 3) for mm in grid.spacing],
        "batch": batch, "turns": turns,
        "precision": "bf16" if uses_bf16("auto", where.type) else "fp32",
        "threads": torch.get_num_threads(), "load": [before, psutil.getloadavg()[0]],
        "machine": machine(where), "libraries": _versions(), "sections": sections,
        "table": table(sections), "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    plot_ratios(out / PLOT, sections)
    write_atomic(out / JSON, json.dumps(found, indent=1))
    write_atomic(out / PAGE, others_page(found, PLOT))
    return found


def table(sections: list[Row]) -> str:
    """All rows as a Markdown table, ratios first."""
    lines = []
    for section in sections:
        title = section["title"]
        for row in section["rows"]:
            ratio = row.get("ratio")
            if ratio is None:
                cells = ["not measured", "", "", ""]
            else:
                span = f" ({ratio['low']:g} to {ratio['high']:g})"
                cells = [
                    f"{ratio['value']:g}{'' if ratio['low'] == ratio['high'] else span}",
                    f"{row['milliseconds']:g}", f"{row['processor_milliseconds']:g}",
                    f"{row.get('parameters_millions', '')}",
                ]  # fmt: skip
            lines.append([title, row["name"], *cells])
            title = ""
    names = ("work", "program", "time, medgan = 1", "ms", "processor ms", "parameters (millions)")
    return markdown_table(names, lines)


def _config(preset: str, device: str) -> Config:
    """The preset without what the others have nothing of, in the faster precision."""
    overrides = [
        "out=unused", f"train.device={device}", "train.precision=auto",
        "model.from_template=false",
    ]  # fmt: skip
    config = build(read_pipeline(preset)[1], overrides)
    if config.train.task != "synthesis" or config.data.patches:
        raise ConfigError(
            "E_USAGE", preset, "trains no generator of whole scans",
            "name one that does, such as msd_hippocampus",
        )  # fmt: skip
    plain = {
        "conditions": {}, "caption": "", "align": "none", "brain": "none", "bias": "none",
        "source": "", "splits": "", "healthy": {},
    }  # fmt: skip
    return config.model_copy(update={"data": config.data.model_copy(update=plain)})


def _scans(
    settings: DataConfig, data: str, count: int, folder: Path
) -> tuple[list[Case], DataConfig]:
    """The scans that all work with, and the settings of their grid."""
    if not data:
        shape = (32, 32, 32) if isinstance(settings.shape, str) else settings.shape
        stored = [round(_FINER * size) for size in shape]
        spacing = max(mm / size for mm, size in zip(_HEAD_MM, stored, strict=True))
        x, y, z = stored
        data = str(make_data_set(folder / "phantoms", count, 0, (x, y, z), spacing, 0))
        edge = _FINER * spacing
        settings = settings.model_copy(
            update={"shape": shape, "spacing": (edge, edge, edge), "intensity": "mri"}
        )
    named = settings.model_copy(update={"source": data})
    manifest, _ = read_manifest(named, folder / "converted")
    require_one_channel("a comparison", manifest.channels)
    return list(manifest.cases[:count]), settings


def _versions() -> dict[str, str]:
    """Of the libraries; those that are not installed are left out."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
