"""A patient's images by every method."""

from dataclasses import dataclass

import numpy as np

from medgan.studies.translation.scans import PairedScan

Images = dict[str, np.ndarray]
"""Images by method or by channel, (X, Y, Z), as those of `PairedScan`."""


@dataclass(frozen=True)
class Translated:
    """A patient that no method learned from.

    Attributes:
        scan: the real images.
        drawn: by target channel, of every method.
        spread: by target channel, of the model's answers; empty for one answer.
    """

    scan: PairedScan
    drawn: dict[str, Images]
    spread: Images
