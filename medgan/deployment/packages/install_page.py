"""The page that tells a hospital's IT how to install a package."""

import sys

from medgan.core.version import __version__
from medgan.deployment.packages.packaged import Packaged
from medgan.deployment.packages.sealing import USE, about_licence
from medgan.deployment.packages.wheels import platform
from medgan.model.folder import holds_discriminator

_FETCH = """\
**The wheels are not all here.** On a machine with a network, and the same Python and system, run
this in a copy of this folder, and bring the folder `wheels` back:

```bash
pip download --no-deps --only-binary :all: --find-links wheels --dest wheels -r requirements.txt
```

`requirements.txt` then has no hashes for pip to compare. `medgan export --wheels` collects them and
writes the hashes."""


def install_page(packaged: Packaged, whole: bool, expected: dict[str, float]) -> str:
    """Markdown for `INSTALL.md`.

    Args:
        packaged: the model.
        whole: whether all wheels are there.
        expected: what the proof should give.
    """
    model = packaged.model
    python = "python" + ".".join(map(str, sys.version_info[:2]))
    hashes = " --require-hashes" if whole else ""
    commands = [
        "sha256sum -c SHA256SUMS",
        f"{python} -m venv venv && venv/bin/pip install --no-index --find-links wheels{hashes} "
        "-r requirements.txt",
        "venv/bin/medgan verify .",
    ]
    parts = [
        "# Install a medgan model", f"**{USE}**",
        f"For {platform()}. Nothing is downloaded. In this folder:",
        "\n".join(["```bash", *commands, "```"]),
        *([] if whole else [_FETCH]),
        "The last command compares all files with `SHA256SUMS` once more, and computes the values "
        "in `proof/expected.json` from the model and a scan of no patient. It ends with status 0 "
        "if this installation computes the same, within 0.001, and with 6 if not. Expected:",
        "\n".join(f"- {name.replace('_', ' ')}: {value:.6g}" for name, value in expected.items()),
        "`venv/bin/medgan doctor` checks memory, disks and folders of the machine.",
        "## Use", "\n".join(["```bash", *_use(packaged), "```"]),
        "## What is here", _listing(packaged),
        f"Made by medgan {__version__}. {about_licence(model.facts)}",
    ]  # fmt: skip
    if holds_discriminator(packaged.folder):
        parts.append(
            "The model still holds its discriminator, which leaks most about training scans: "
            "`medgan share` makes a model without it."
        )
    return "\n\n".join(parts) + "\n"


def _use(packaged: Packaged) -> list[str]:
    model, lines = packaged.model, []
    if model.calibration is not None:
        lines.append("venv/bin/medgan score model SCANS -o RESULTS")
    if model.source:
        lines.append("venv/bin/medgan translate model SCANS -o RESULTS")
    if model.networks.synthesises:
        lines.append("venv/bin/medgan generate model -n 8 -o SYNTHETIC")
    return lines


def _listing(packaged: Packaged) -> str:
    rows = [
        ("model/", "tensors and JSON, and the card: what the model is and what to mind"),
        ("wheels/, wheels.txt", "Python packages, and which there have to be"),
        ("requirements.txt", "their exact versions"),
        ("sbom.cdx.json", "the bill of materials, CycloneDX 1.5: licences and hashes"),
        ("proof/", "a scan of no patient, and what the model has to make of it"),
        ("registry.json", "what the register says of this version" if packaged.version else ""),
        ("promotions.json", "the gate's records on it" if packaged.promotions else ""),
        ("SHA256SUMS", "checksums of everything"),
    ]
    return "\n".join(f"- `{name}`: {what}" for name, what in rows if what)
