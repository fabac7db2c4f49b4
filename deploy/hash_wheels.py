"""Writes `requirements.txt` of a folder of wheels: exact versions with the hashes of these files.

python deploy/hash_wheels.py wheelhouse [--lock deploy/requirements.lock]

With a lock it says which wheels are not in it: medgan's own, and those of PyTorch for a processor
or GPU that the lock does not have. Any other is not what was locked, and the status is 6.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from medgan.core.files import sha256_of, write_atomic

_OTHER = ("medgan", "pip", "torch", "torchvision", "triton")
"""And what begins with `nvidia-`: of another source, or built for another processor or GPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lock", type=Path, help="file of versions with hashes to compare with")
    asked = parser.parse_args(arguments)
    lines, hashes = [], {}
    for path in sorted(asked.folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(path.name)
        hashes[canonicalize_name(name)] = sha256_of(path)
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{sha256_of(path)}\n")
    write_atomic(asked.folder / "requirements.txt", "".join(lines))
    print(f"{len(lines)} wheels with their hashes in {asked.folder / 'requirements.txt'}")
    if asked.lock is None:
        return 0
    locked = set(re.findall(r"sha256:([0-9a-f]{64})", asked.lock.read_text("utf-8")))
    other = {name for name, digest in hashes.items() if digest not in locked}
    expected = {name for name in other if name in _OTHER or name.startswith("nvidia-")}
    for name in sorted(other):
        print(f"{name}: {'another build than in' if name in expected else 'NOT in'} {asked.lock}")
    return 6 if other - expected else 0


if __name__ == "__main__":
    raise SystemExit(main())
