"""A package of ONNX files: the networks, what goes in and out, and how well they agree."""

from pathlib import Path
from typing import Any

from medgan.core.config import Condition
from medgan.core.files import write_atomic
from medgan.core.version import __version__
from medgan.data.conditions import widths
from medgan.deployment.packages.networks import Network, Port, networks_of
from medgan.deployment.packages.onnx_files import (
    TOLERANCE,
    Exported,
    check_extra,
    write_network,
)
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import (
    LICENCE,
    USE,
    about_licence,
    licence_text,
    seal,
    write_json,
)
from medgan.model.card import model_facts
from medgan.model.folder import CARD

PATTERNS = (
    "*.onnx", "*.pt2", "check.json", "networks.json", "conditions.json", "README.md", CARD, LICENCE,
    "SHA256SUMS",
)  # fmt: skip
"""What this package may hold."""
_ENCODING = {
    "continuous": "(value - mean) / spread, then 1",
    "periodic": "sine, then cosine of 2 pi times the share of the cycle",
    "categorical": "1 in the column of the category, 0 in the others",
    "text": "vectors of words, which medgan[text] makes",
}


def write_onnx(packaged: Packaged, out: Path) -> dict[str, Any]:
    """Writes the networks of a model as ONNX files, each compared with the original.

    Args:
        packaged: the model.
        out: receives the files.

    Returns:
        What `check.json` holds: of each network its file and its largest difference.

    Raises:
        EnvironmentFailure: E_EXTRA without onnx, onnxruntime and onnxscript.
        ModelError: E_PACKAGE when a file computes something else.
    """
    check_extra()
    model = packaged.model
    networks = list(networks_of(model))
    done = {network.name: write_network(network, out) for network in networks}
    check = {name: one.as_json() for name, one in done.items()}
    write_json(out / "check.json", check)
    write_json(out / "networks.json", {one.name: _ports(one) for one in networks})
    if model.preprocessing.conditions:
        write_json(out / "conditions.json", _conditions(model.preprocessing.conditions))
    write_atomic(out / "README.md", _readme(packaged, networks, done))
    write_atomic(out / LICENCE, licence_text())
    card = packaged.folder / CARD
    if card.is_file():
        write_atomic(out / CARD, card.read_bytes())
    seal(out)
    return check


def _ports(network: Network) -> dict[str, Any]:
    return {
        kind: {name: {"shape": ["batch", *port.shape], **_range(port)} for name, port in ports}
        for kind, ports in (
            ("inputs", network.inputs.items()),
            ("outputs", network.outputs.items()),
        )
    }


def _range(port: Port) -> dict[str, Any]:
    return {"range": port.range and list(port.range), "meaning": port.meaning}


def _conditions(conditions: tuple[Condition, ...]) -> list[dict[str, Any]]:
    """How the input `condition` is made, for whoever has no medgan."""
    found, start = [], 0
    for one, columns in zip(conditions, widths(conditions), strict=True):
        values: dict[str, Any] = {"name": one.name, "kind": one.kind}
        values |= {"columns": [start, start + columns], "encoding": _ENCODING[one.kind]}
        if one.kind == "continuous":
            values |= {"mean": one.mean, "spread": one.spread}
        if one.kind == "categorical":
            values["categories"] = list(one.values)
        found.append(values)
        start += columns
    return found


def _readme(packaged: Packaged, networks: list[Network], done: dict[str, Exported]) -> str:
    model = packaged.model
    facts = model_facts(model.preprocessing, 0, {"weights": model.digest})
    parts = [
        "# ONNX files of a medgan model",
        f"**{USE}** [What the model is and what to mind](card.md).",
        "\n".join(f"- {k}: {v}" for k, v in facts.items() if v and k != "calibrated"),
        f"Made by medgan {__version__}. {about_licence(model.facts)}",
        "Volumes are on the model's grid, axes right, anterior, superior, intensities in [-1, 1]. "
        "`Model.prepare` of medgan brings a scan there. These files are the networks alone: scores "
        "with p-values, maps in a scan's own grid and labels need medgan, as in the formats "
        "`monai-bundle` and `folder`.",
        "## Networks",
        _table(networks, done),
        "*Difference*: the largest one of any output from the original network on random inputs "
        "and on zeros, batches of 2 and of 1, by onnxruntime (`check.json`); above "
        f"{TOLERANCE:g} nothing is "
        "exported. The batch is free, the other sizes are fixed.",
    ]
    if model.preprocessing.conditions:
        parts.append("`conditions.json` says how `condition` is made of covariates.")
    shown = next((one for one in networks if done[one.name].format == "onnx"), None)
    if shown is not None:
        parts += ["## Example", _example(shown)]
    for one in done.values():
        if one.reason:
            parts.append(
                f"`{one.file}` is no ONNX file, because {one.reason}: it is a program of "
                "torch.export, for `torch.export.load` (`.module()` is callable). Load such a file "
                "only from people you trust: its example inputs are a pickle."
            )
    return "\n\n".join(parts) + "\n"


def _table(networks: list[Network], done: dict[str, Exported]) -> str:
    rows = [
        "| file | | name | shape | range | meaning | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for network in networks:
        one = done[network.name]
        for kind, ports in (("in", network.inputs), ("out", network.outputs)):
            for name, port in ports.items():
                shape = " x ".join(["batch", *map(str, port.shape)])
                limits = "none" if port.range is None else "{:g} to {:g}".format(*port.range)
                row = (f"`{one.file}`", kind, f"`{name}`", shape, limits, port.meaning)
                rows.append(f"| {' | '.join(row)} | {one.difference:.1g} |")
    return "\n".join(rows)


def _example(network: Network) -> str:
    lines = []
    for name, port in network.inputs.items():
        size = f"(1, {', '.join(map(str, port.shape))})"
        zeros = name in ("condition", "noise")
        made = f"np.zeros({size})" if zeros else f"random.normal(size={size}).clip(-1, 1)"
        made = made if port.range or zeros else f"random.normal(size={size})"
        lines.append(f'    "{name}": {made}.astype(np.float32),')
    outputs = ", ".join(network.outputs)
    first = next(iter(network.outputs))
    return "\n".join(
        [
            "```python", "import numpy as np, onnxruntime", "",
            f'session = onnxruntime.InferenceSession("{network.name}.onnx")',
            "random = np.random.default_rng(0)", "inputs = {", *lines, "}",
            f"{outputs}{',' if len(network.outputs) == 1 else ''} = session.run(None, inputs)",
            f"print({first}.shape, {first}.min(), {first}.max())", "```",
        ]
    )  # fmt: skip
