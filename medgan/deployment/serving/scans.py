"""From what a request names or brings to one checked scan."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

from medgan.core.errors import DataError, of_scan
from medgan.core.nifti import voxel_bytes
from medgan.data.checks import CheckedScan
from medgan.data.dicom.conversion import Conversion
from medgan.data.dicom.files import looks_like_dicom
from medgan.data.dicom.series import IGNORED
from medgan.data.index import examine
from medgan.data.layouts.files import is_nifti
from medgan.data.layouts.listed import Listed, subject_of
from medgan.data.manifest import Case
from medgan.data.pseudonyms import Pseudonyms
from medgan.deployment.serving.archives import MOST_FILES, unpack
from medgan.deployment.serving.refusals import too_large

Images = Mapping[str, Path]
"""A NIfTI file for each channel; or for the only one a folder of DICOM or a zip of such."""


class ScanReader:
    """Reads scans and checks them, each under its pseudonym.

    Args:
        most_bytes: of voxels in memory, or of unpacked DICOM.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._pseudonyms = Pseudonyms.of_site()

    def pseudonym(self, name: str) -> str:
        """Of a scan: keyed, so that it means nothing elsewhere."""
        return self._pseudonyms.case(name)

    def read(
        self, images: Images, name: str, covariates: Mapping[str, str], work: Path,
        root: Path | None = None,
    ) -> tuple[Case, CheckedScan, tuple[str, ...]]:  # fmt: skip
        """A scan, with what was corrected on the way from DICOM.

        Args:
            images: of the scan.
            name: from which its pseudonym is made.
            covariates: as text.
            work: private folder for what is unpacked and converted.
            root: folder that links must not lead out of.

        Raises:
            DataError: why `medgan check` would refuse it; E_NO_SCANS, E_MIXED for a folder that
                does not hold one series.
            Refused: E_UPLOAD, 413; E_ARCHIVE.
        """
        case = self.pseudonym(name)
        only = next(iter(images.values()))
        if len(images) == 1 and only.suffix == ".zip" and only.is_file():
            folder = work / "unpacked"
            folder.mkdir()
            unpack(only, folder, self._most)
            images, root = {next(iter(images)): folder}, folder
        listed = Listed(name, subject_of(name), dict(images), covariates=(), root=root)
        with of_scan(case):
            return self._read(listed, case, tuple(covariates.items()), work)

    def _read(
        self, listed: Listed, case: str, covariates: tuple[tuple[str, str], ...], work: Path
    ) -> tuple[Case, CheckedScan, tuple[str, ...]]:
        notes: tuple[str, ...] = ()
        subject = listed.subject
        kept: list[CheckedScan] = []
        with Conversion(work / "dicom") as conversion:
            if not all(is_nifti(path) for path in listed.images.values()):
                listed, notes = self._converted(listed, case, conversion)
                subject = listed.subject or subject
            self._refuse_huge(listed, case)
            listed = Listed(
                listed.name, subject, listed.images, covariates=covariates, root=listed.root
            )
            found = examine(
                listed, case, self._pseudonyms.subject(subject), lambda _, scan: kept.append(scan)
            )
        return found, kept[0], notes

    def _converted(
        self, listed: Listed, case: str, conversion: Conversion
    ) -> tuple[Listed, tuple[str, ...]]:
        """The one series of a folder, as NIfTI."""
        if len(listed.images) > 1:
            raise DataError(
                "E_LAYOUT", case, "several channels, and one is no NIfTI file",
                "give a NIfTI file for each channel",
            )  # fmt: skip
        if listed.image.is_dir() or looks_like_dicom(listed.image):
            self._refuse_many(listed.image)
        series = conversion.expand(listed)
        ready, faults = [], []
        for one in sorted(series, key=lambda one: one.series is None):
            if one.series is not None:
                self._refuse_huge_series(one)
            try:
                ready.append(conversion.ready(one, case))
            except DataError as error:
                if one.series is not None and error.code not in IGNORED:
                    raise
                faults.append(error)
            if len(ready) > 1:
                raise DataError("E_MIXED", case, "several series", "give one series of one patient")
        if not ready:
            no_series = DataError("E_NO_SCANS", case, "no DICOM in it", "give NIfTI or one series")
            raise faults[0] if faults else no_series
        return ready[0]

    def _refuse_huge_series(self, listed: Listed) -> None:
        """Refuses compressed files that unpack to more voxels than the limit."""
        assert listed.series is not None
        if 4 * math.prod(listed.series.extent[0]) > self._most:
            raise too_large(f"it holds more than {self._most // 2**20} MB of voxels")

    def _refuse_many(self, place: Path) -> None:
        """Refuses a folder that no single series fills, before its headers are read.

        Of a DICOM file it is the folder that it lies in, where the rest of its series is.
        """
        folder, files, size = place if place.is_dir() else place.parent, 0, 0
        for inner, _, names in os.walk(folder):
            files += len(names)
            size += sum(os.lstat(os.path.join(inner, name)).st_size for name in names)
            if files > MOST_FILES or size > self._most:
                raise too_large("the folder holds more than one series should")

    def _refuse_huge(self, listed: Listed, case: str) -> None:
        """Refuses voxels beyond the limit by what headers announce."""
        if sum(voxel_bytes(path, case) for path in listed.images.values()) > self._most:
            raise too_large(f"it holds more than {self._most // 2**20} MB of voxels")
