"""Writes the bill of materials of medgan as it is installed here: CycloneDX 1.5, JSON.

python deploy/sbom.py sbom.cdx.json [--wheels wheelhouse] [--extra dicom ...]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from medgan.deployment.packages.distributions import installed
from medgan.deployment.packages.sbom import bill_of_installation
from medgan.deployment.packages.sealing import write_json
from medgan.deployment.packages.wheels import found


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the file and says what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--wheels", type=Path, help="folder of wheels, whose hashes are noted")
    parser.add_argument("--extra", nargs="*", default=(), help="extras of medgan to go with it")
    asked = parser.parse_args(arguments)
    parts = installed(asked.extra)
    wheels = found(asked.wheels) if asked.wheels else {}
    write_json(asked.out, bill_of_installation(parts, wheels))
    hashed = sum(one.name in wheels for one in parts)
    print(f"{asked.out}: {len(parts)} packages, {hashed} with the hash of their wheel")


if __name__ == "__main__":
    main()
