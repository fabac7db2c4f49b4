"""One scan as a data set names it, before anything is read."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.core.errors import DataError
from medgan.data.dicom.series import Series
from medgan.data.layouts.files import is_nifti
from medgan.data.manifest import Case


@dataclass(frozen=True)
class Selection:
    """Which scans and channels of a data set to list.

    Attributes:
        suffix: of BIDS files, such as T1w or echo-1_MEGRE; needed where a tree holds several.
        session: of a BIDS tree; empty is all.
        channels: image channels in order, as the layout names them; empty is all it names, else
            one.
        by_place: whether loose files have their names and subjects by their place below the folder
            alone, whatever else lies there: for a folder that scans come to and go from.
    """

    suffix: str = ""
    session: str = ""
    channels: tuple[str, ...] = ()
    by_place: bool = False


@dataclass(frozen=True)
class Listed:
    """One scan as a data set names it, unread; this never leaves the index.

    Attributes:
        name, subject: as the data set spells them; no subject where DICOM headers say it.
        images: absolute path of each image channel by its name, in order; the only one may be a
            folder of DICOM, or a file of a series.
        label: absolute path.
        covariates: column and value.
        root: folder that the scan was found in, which links must not lead out of.
        series: what a DICOM image turned out to be.
        fault: why the scan cannot be used, as far as the layout or DICOM headers tell.
        missing: names of channels that the data set has and this scan lacks.
        known: the case of a manifest, whose pseudonyms, health and split are kept.
        sequence: name of the sequence that this is a phase of; empty for a single scan.
        phase: number of the volume in a 4D file, from 0; None for a file of its own.
    """

    name: str
    subject: str
    images: dict[str, Path]
    label: Path | None = None
    covariates: tuple[tuple[str, str], ...] = ()
    root: Path | None = None
    series: Series | None = None
    fault: DataError | None = None
    missing: tuple[str, ...] = ()
    known: Case | None = None
    sequence: str = ""
    phase: int | None = None

    @property
    def unsorted(self) -> bool:
        """Whether this is a DICOM file that can be assigned to no series."""
        return self.fault is not None and self.series is None and not is_nifti(self.image)

    @property
    def image(self) -> Path:
        """The first channel; an empty path where a scan lacks all of them."""
        return next(iter(self.images.values()), Path())

    def with_image(self, path: Path) -> "Listed":
        """The same scan of one channel from another file."""
        return replace(self, images={next(iter(self.images)): path})


def subject_of(name: str) -> str:
    """The `sub-<label>` that a file name begins with, else the name itself."""
    match = re.match(r"(sub-[A-Za-z0-9]+)", name)
    return match.group(1) if match else name


def with_plain_names(listing: list[Listed]) -> list[Listed]:
    """Plain file names where they are unique, so that every layout names a scan alike."""
    plain = [Path(listed.name).name for listed in listing]
    if len(set(plain)) < len(plain):
        return listing
    return [replace(listed, name=name) for listed, name in zip(listing, plain, strict=True)]
