"""A MONAI bundle: configurations that run, metadata, the model's own files.

Reference: MONAI bundle specification, docs.monai.io/en/stable/mb_specification.html.
"""

from pathlib import Path
from typing import Any

from medgan.core.errors import ModelError
from medgan.core.files import write_atomic
from medgan.deployment.packages.bundle_metadata import metadata
from medgan.deployment.packages.bundle_readme import readme
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import LICENCE, licence_text, seal, write_json
from medgan.model import refinement
from medgan.model.model import Model

PATTERNS = ("configs", "models", "docs", LICENCE, "SHA256SUMS")
"""What this package may hold."""
_RUNS = "medgan.deployment.packages.runs"
_COMMON: dict[str, Any] = {
    "bundle_root": ".",
    "device": "cpu",
    "network_def": {
        "_target_": "medgan.model.model.Model.load",
        "folder": "$@bundle_root + '/models'",
        "device": "@device",
    },
    "run": ["$@evaluator.run()"],
}
_OF_SCANS: dict[str, Any] = {
    "dataset_dir": "$@bundle_root + '/scans'",
    "output_dir": "$@bundle_root + '/results'",
    "dataset": {
        "_target_": f"{_RUNS}.Scans",
        "source": "@dataset_dir",
        "model": "@network_def",
        "output": "@output_dir",
    },
}


def write_bundle(packaged: Packaged, out: Path) -> dict[str, Any]:
    """Writes a MONAI bundle that runs where medgan is installed.

    Args:
        packaged: the model.
        out: receives the bundle.

    Returns:
        The configurations it holds, by name, and what each does.

    Raises:
        ModelError: E_PACKAGE for a model that refines lesions, which reads no folder of scans.
    """
    configs = configurations(packaged.model)
    packaged.copy(out / "models")
    for name, config in configs.items():
        write_json(out / "configs" / f"{name}.json", config)
    write_json(out / "configs" / "metadata.json", metadata(packaged))
    write_atomic(out / "docs" / "README.md", readme(packaged))
    if licence := packaged.model.facts.get("data_licence"):
        write_atomic(out / "docs" / "data_license.txt", f"Training data: {licence}\n")
    write_atomic(out / LICENCE, licence_text())
    seal(out)
    return {"configs": list(configs)}


def configurations(model: Model) -> dict[str, dict[str, Any]]:
    """The configurations of a model by name: `inference`, and `generate` where it draws scans.

    Raises:
        ModelError: E_PACKAGE.
    """
    found: dict[str, dict[str, Any]] = {}
    scans = {"model": "@network_def", "scans": "@dataset"}
    if model.calibration is not None:
        scoring = {"_target_": f"{_RUNS}.Scoring", **scans, "false_alarms": "@false_alarms"}
        found["inference"] = {
            **_COMMON, **_OF_SCANS, "false_alarms": 0.0, "inferer": "$@network_def.score",
            "evaluator": scoring,
        }  # fmt: skip
    elif model.source and model.networks.needed_translator.conversion.task != refinement.TASK:
        translating = {"_target_": f"{_RUNS}.Translating", **scans, "answers": "@answers"}
        found["inference"] = {
            **_COMMON, **_OF_SCANS, "answers": 8, "seed": 0, "inferer": "$@network_def.translate",
            "evaluator": {**translating, "seed": "@seed"},
        }  # fmt: skip
    if model.networks.synthesises:
        drawing = {"model": "@network_def", "output": "@output_dir", "count": "@count"}
        found["generate"] = {
            **_COMMON, "output_dir": "$@bundle_root + '/synthetic'", "count": 8, "seed": 0,
            "conditions": {}, "inferer": "$@network_def.generate",
            "evaluator": {
                "_target_": f"{_RUNS}.Drawing", **drawing, "seed": "@seed",
                "conditions": "@conditions",
            },
        }  # fmt: skip
    if not found:
        raise ModelError(
            "E_PACKAGE", "the model", "neither scores, translates nor draws scans by itself",
            "use --format onnx or folder, or calibrate it first (medgan calibrate)",
        )  # fmt: skip
    if "inference" not in found:  # what a bundle is looked into for
        found = {"inference": found["generate"], **found}
    return found
