"""The proof of an installation: a scan of no patient, and what the model makes of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgan.core.config import Preprocessing
from medgan.core.errors import DataError, ModelError
from medgan.core.files import sha256_of
from medgan.core.json_files import read_json
from medgan.core.volume import Volume
from medgan.data.alignment import grid_affine
from medgan.data.intensities import synthetic_scale
from medgan.deployment.packages.networks import networks_of
from medgan.deployment.packages.sealing import LICENCE, SUMS, write_json
from medgan.model.model import Model

FOLDER, EXPECTED, WHEELS = "proof", "expected.json", "wheels"
PARTS = (
    *("model", FOLDER, "requirements.txt", "wheels.txt", "sbom.cdx.json"),
    *("registry.json", "promotions.json", "INSTALL.md", LICENCE),
)
"""Of a package, beside its wheels and the checksums; others make more, such as `venv`."""
TOLERANCE = 1e-3
"""Largest difference, as a share of a value where that is above 1."""
_TEXT = "phantom of medgan, no patient"
_SHAPE, _SPACING = (48, 56, 48), 4.0
Values = dict[str, float]


@dataclass(frozen=True)
class Checked:
    """What the check of a package found.

    Attributes:
        files: that were compared with their checksums.
        damaged: with another checksum, without one, or missing.
        expected, found: values by name, empty where files are damaged.
    """

    files: int
    damaged: tuple[str, ...]
    expected: Values
    found: Values

    @property
    def passed(self) -> bool:
        """Whether all files are as they were packed and the installation computes the same."""
        return not self.damaged and all(
            _agree(v, self.found.get(k, math.nan)) for k, v in self.expected.items()
        )


def write_proof(model: Model, folder: Path) -> Values:
    """Writes `proof/`: scans of phantoms, and what this installation makes of them.

    Args:
        model: to prove.
        folder: of the package.
    """
    place = folder / FOLDER
    for name, volume in _phantoms(model.preprocessing).items():
        volume.save(place / f"{name}.nii.gz", _TEXT)
    values = _computed(model, place)
    write_json(place / EXPECTED, {"tolerance": TOLERANCE, "values": values})
    return values


def check_package(folder: Path) -> Checked:
    """Compares a package with its checksums, and what it computes with what it should.

    Raises:
        ModelError: E_PACKAGE when there is no package; E_MODEL when its model cannot be read.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        stored = read_json(folder / FOLDER / EXPECTED)["values"]
        expected = {str(name): float(value) for name, value in stored.items()}
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            "E_PACKAGE", "the folder", "is no package of medgan export --format folder",
            "give the folder that holds SHA256SUMS and proof/",
        ) from None  # fmt: skip
    damaged = [name for name, digest in sums.items() if not _is(folder / name, digest)]
    if damaged := (*damaged, *(name for name in _names(folder) if name not in sums)):
        return Checked(len({*sums, *damaged}), damaged, {}, {})
    found = _computed(Model.load(folder / "model"), folder / FOLDER)
    return Checked(len(sums), (), expected, found)


def _names(folder: Path) -> list[str]:
    """Files that need a checksum: those of the parts, and the wheels that were packed."""
    found = [one for part in PARTS for one in (folder / part, *(folder / part).rglob("*"))]
    names = [one.relative_to(folder) for one in found if one.is_file()]
    shown = [name.as_posix() for name in names if not any(p.startswith(".") for p in name.parts)]
    listed = folder / "wheels.txt"
    wheels = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    return [*shown, *(name for name in wheels if name.startswith(f"{WHEELS}/"))]


def _computed(model: Model, place: Path) -> Values:
    """What a model makes of the enclosed scans, or of fixed numbers where it reads no scans."""
    if model.calibration is not None:
        try:
            return _score(model, place)
        except DataError:  # a model of another part of the body may refuse a head
            pass
    if model.networks.synthesises:
        image = model.generate(1, seed=0)[0].image.data.astype(np.float64)
        return {"sample_mean": float(image.mean()), "sample_spread": float(image.std())}
    network = next(networks_of(model))
    with torch.inference_mode():
        drawn = network.module(*network.examples())
    drawn = drawn if isinstance(drawn, torch.Tensor) else drawn[0]
    return {
        f"{network.name}_mean": float(drawn.mean()),
        f"{network.name}_spread": float(drawn.std()),
    }


def _score(model: Model, place: Path) -> Values:
    scans = {name: place / f"{name}.nii.gz" for name in model.preprocessing.channels}
    found = model.score(scans)
    values = {"score": found.score, "highest_of_map": float(found.score_map.data.max())}
    values["mean_of_map"] = float(found.score_map.data.mean())
    return values


def _phantoms(grid: Preprocessing) -> Mapping[str, Volume]:
    """A scan of no patient for each channel: the mean of aligned scans, else a drawn head."""
    if grid.template is not None:
        affine = grid_affine(grid.shape, grid.spacing)
        return {
            name: _whole(synthetic_scale(grid, name).back(mean), affine)
            for name, mean in zip(grid.channels, grid.template.mean, strict=True)
        }
    image = _head()
    ends = {"ct": (-1000.0, 1000.0), "mri": (0.0, 1000.0)}
    affine = grid_affine(_SHAPE, (_SPACING,) * 3)
    found = {}
    for name in grid.channels:
        low, high = ends[grid.intensity_of(name)]
        found[name] = _whole(low + (high - low) * image, affine)
    return found


def _head() -> np.ndarray:
    """A drawn head, from 0 to 1."""
    from medgan.data.phantoms.heads import sample_head
    from medgan.data.phantoms.rendering import render

    random = np.random.default_rng(0)
    image, _ = render(sample_head(random, 50.0), _SHAPE, _SPACING, random)
    return image / image.max()


def _whole(values: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume(np.round(values).astype(np.int16), affine)


def _agree(expected: float, found: float) -> bool:
    return abs(expected - found) <= TOLERANCE * max(1.0, abs(expected))


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def lines(checked: Checked) -> list[str]:
    """What a check says, line by line."""
    said = [f"files     {checked.files - len(checked.damaged)} of {checked.files} are as packed"]
    said += [f"damaged   {name}" for name in checked.damaged]
    for name, value in checked.expected.items():
        said.append(f"{name:16} {checked.found.get(name, math.nan):.6g}, expected {value:.6g}")
    return [*said, "passed" if checked.passed else "not passed"]


def as_json(checked: Checked) -> dict[str, Any]:
    """The same for `--json`."""
    return vars(checked) | {"damaged": list(checked.damaged), "passed": checked.passed}
