"""What tells whether two models are one."""

import hashlib

from medgan.model.model import Model


def digest_of(model: Model) -> str:
    """Hash of a model's weights and grid, independent of its location."""
    found = hashlib.sha256(model.preprocessing.model_dump_json().encode())
    found.update(repr(model.label_offset).encode())
    for name, network in sorted(model.networks.modules().items()):
        for key, value in sorted(network.state_dict().items()):
            found.update(f"{name}.{key}".encode())
            found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
