"""The page of a MONAI bundle."""

from medgan.core.version import __version__
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import USE, about_licence
from medgan.model.card import described, model_facts
from medgan.model.folder import holds_discriminator

_RUN = "python -m monai.bundle run --config_file configs/{} --meta_file configs/metadata.json"


def readme(packaged: Packaged) -> str:
    """Markdown for `docs/README.md`."""
    model = packaged.model
    summary, limits = described(packaged.config)
    scans = len(model.calibration.scores) if model.calibration else 0
    facts = model_facts(model.preprocessing, scans, model.facts)
    parts = [
        "# A medgan model as a MONAI bundle", summary, f"**{USE}**",
        f"Made by medgan {__version__}. {about_licence(model.facts)}",
        "## Run", _commands(packaged),
        "`device`, `dataset_dir`, `output_dir` and the other values at the top of a configuration "
        "can be given as options, such as `--device cuda`.",
        "The bundle needs medgan and fire (`metadata.json` has all versions). Weights are tensors "
        "and JSON; no file is a pickle. MONAI runs what a configuration names: run bundles from "
        "people you trust, and check this one with `sha256sum -c SHA256SUMS`.",
        "## Model", "\n".join(f"- {name}: {value}" for name, value in facts.items() if value),
        "## Limits", "\n".join(f"- {limit}" for limit in limits),
    ]  # fmt: skip
    if holds_discriminator(packaged.folder):
        parts.append(
            "- It still holds its discriminator, which leaks most about training scans: "
            "`medgan share` makes a model without it."
        )
    return "\n\n".join(parts) + "\n"


def _commands(packaged: Packaged) -> str:
    model = packaged.model
    lines = []
    if model.calibration is not None:
        lines += [
            f"{_RUN.format('inference.json')} --dataset_dir SCANS --output_dir RESULTS",
            "# RESULTS/scores.json, and maps/ in each scan's own grid, as medgan score writes them",
        ]
    elif model.networks.translator is not None:
        lines += [
            f"{_RUN.format('inference.json')} --dataset_dir SCANS --output_dir RESULTS",
            "# RESULTS/images/, spread/ and translations.json, as medgan translate writes them",
        ]
    if model.networks.synthesises:
        lines += [
            f"{_RUN.format('generate.json')} --count 8 --seed 0 --output_dir SYNTHETIC",
            "# a Decathlon data set of synthetic scans, as medgan generate writes it",
        ]
    return "\n".join(["```bash", *lines, "```"])
