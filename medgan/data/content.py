"""What tells whether a file holds a scan again, whatever it is called and however it is stored."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan.data.checks import CheckedScan

SAME_MM = 0.01
"""Largest difference of the affines of one scan; converters round them."""
Content = dict[str, Any]


def content_of(scan: CheckedScan) -> Content:
    """What tells whether a file holds a scan again.

    Returns:
        `voxels`: hash of the values in their places along R, A and S. `values`: the same sorted,
        which a wrong orientation does not change. `affine`: of the voxels in their places.
    """
    volumes = [volume.canonical() for volume in scan.volumes]
    data = [np.ascontiguousarray(volume.data, "<f4") for volume in volumes]
    return {
        "voxels": _sha256(data), "values": _sha256([np.sort(one, axis=None) for one in data]),
        "affine": np.asarray(volumes[0].affine, float).tolist(),
    }  # fmt: skip


def _sha256(arrays: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode() + array.tobytes())
    return digest.hexdigest()


def same_content(one: Content, other: Mapping[str, Any]) -> bool:
    """Whether two contents are of the same voxels in the same places."""
    same = one["voxels"] == other["voxels"]
    return same and np.allclose(one["affine"], other["affine"], rtol=0, atol=SAME_MM)
