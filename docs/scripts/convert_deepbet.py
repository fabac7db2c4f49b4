"""Writes the weights of medgan/data/brain from the wheel of deepbet, without running any of it.

The wheel's two models are zip archives of plain float32 tensors, in the order in which our
network lists its own; neither TorchScript nor pickle is needed to read them.

    pip download --no-deps deepbet==1.0.2
    python docs/scripts/convert_deepbet.py deepbet-1.0.2-py3-none-any.whl
"""

import io
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from medgan.data.brain.network import LinkNet

MODELS = {"locate": "data/models/bbox_model.pt", "segment": "data/models/model.pt"}
"""Our names, and the wheel's."""


def tensors(archive: zipfile.ZipFile) -> dict[str, torch.Tensor]:
    """The tensors of one model by the names of our network."""
    root = archive.namelist()[0].split("/")[0]
    expected = LinkNet().state_dict()
    found = {}
    for number, (name, like) in enumerate(expected.items()):
        raw = bytearray(archive.read(f"{root}/data/{number}"))
        found[name] = torch.frombuffer(raw, dtype=torch.float32).reshape(like.shape)
    if f"{root}/data/{len(expected)}" in archive.namelist():
        raise SystemExit("the archive holds more tensors than the network")
    return found


def main(wheel: str) -> None:
    """Both models in half precision, with their licence, among the weights of the zoo."""
    folder = Path(__file__).parents[2] / "zoo" / "deepbet"
    with zipfile.ZipFile(wheel) as package:
        for name, member in MODELS.items():
            with zipfile.ZipFile(io.BytesIO(package.read(member))) as archive:
                half = {key: value.half() for key, value in tensors(archive).items()}
            save_file(half, folder / f"{name}.safetensors")
        licence = package.read("deepbet-1.0.2.dist-info/LICENSE")
    (folder / "LICENSE.txt").write_bytes(licence)


if __name__ == "__main__":
    main(sys.argv[1])
