"""Scans in their own grid and intensities as lesions are learned from and drawn into."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from medgan.core.config import Preprocessing
from medgan.core.config.data import Intensity
from medgan.core.errors import DataError
from medgan.core.intensity import IntensityScale
from medgan.data.index import index
from medgan.data.intensities import intensity_scale
from medgan.data.lesion_bank import LabelledScan, LesionBank
from medgan.data.manifest import Case
from medgan.data.pseudonyms import Pseudonyms
from medgan.data.reading import read_case

_HU = (-1100.0, 1500.0)
"""All of soft tissue, lung and most of bone: a lesion may lie in any."""
_MRI = Preprocessing(spacing=(1.0, 1.0, 1.0), shape=(16, 16, 16))
"""Percentiles of the foreground, as where a model says nothing else."""


def lesion_scale(data: np.ndarray, intensity: Intensity) -> IntensityScale:
    """From a scan's intensities to [-1, 1].

    Args:
        data: voxels of the whole scan.
        intensity: what they are.
    """
    return IntensityScale(_HU) if intensity == "ct" else intensity_scale(data, _MRI)


def read_labelled(cases: Sequence[Case], intensity: Intensity) -> Iterator[LabelledScan]:
    """Scans of patients with masks of their lesions, in [-1, 1] and in axes R, A and S.

    Args:
        cases: all label values above 0 are lesions; cases without label map are left out.
        intensity: what the scans hold.

    Raises:
        DataError: E_LABEL where no case has a label map, and what reading a case raises.
    """
    labelled = [case for case in cases if case.label]
    if not labelled:
        raise DataError(
            "E_LABEL", "the scans of patients", "have no label maps", "give masks of lesions"
        )
    for case in labelled:
        scan = read_case(case)
        assert scan.label is not None, "the case has one"
        image, label = scan.volumes[0].canonical(), scan.label.volume.canonical()
        scale = lesion_scale(image.data, intensity)
        volume = scale(torch.from_numpy(np.ascontiguousarray(image.data))).numpy()
        yield LabelledScan(volume, label.data > 0, image.spacing, case.case)


def read_lesion_bank(
    source: str | Path, intensity: Intensity = "mri", margin: float = 3.0
) -> LesionBank:
    """What lesions look like in all labelled scans of a folder.

    Args:
        source: data set in any layout.
        intensity: what the scans hold; lesions in CT keep their HU.
        margin: width in mm of the rim that is kept around each lesion.

    Raises:
        DataError: as `index` and `read_labelled`; E_LESION where there is no lesion.
    """
    manifest, _ = index(Path(source), Pseudonyms.of_site())
    return LesionBank.learn(read_labelled(manifest.cases, intensity), intensity != "ct", margin)
