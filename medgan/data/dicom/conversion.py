"""DICOM files to private NIfTI files, one for each usable series."""

import logging
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from medgan.core.errors import DataError
from medgan.core.volume import Volume
from medgan.data.converted import write_converted
from medgan.data.dicom.decoder import Decoder
from medgan.data.dicom.files import looks_like_dicom, may_be_damaged_dicom
from medgan.data.dicom.frames import Frame, read_frames
from medgan.data.dicom.geometry import stack_slices
from medgan.data.dicom.series import Series, check_consistent, check_wanted, group_series
from medgan.data.dicom.voxels import read_voxels
from medgan.data.layouts.files import files_below, inside, is_nifti
from medgan.data.layouts.listed import Listed

log = logging.getLogger(__name__)
CONVERTED = "dicom"
"""The folder of the converted series in that of a run."""


class Conversion:
    """Replaces folders of DICOM by the series in them, and series by NIfTI files.

    Args:
        folder: receives the files, under pseudonyms and readable by the owner only; None where
            DICOM is not accepted.
        modality: MR or CT where only that one is wanted.
    """

    def __init__(self, folder: Path | None, modality: str = "") -> None:
        self._folder = None if folder is None else folder.absolute()
        self._modality = modality.upper()
        self._decoder = Decoder()

    def __enter__(self) -> "Conversion":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._decoder.close()

    def expand(self, listed: Listed) -> list[Listed]:
        """The scans to be read: the scan itself, or each series of a folder of DICOM.

        A file that cannot be read is listed, too, so that it is refused.

        Raises:
            DataError: E_LAYOUT where DICOM is not accepted.
        """
        if len(listed.images) != 1 or listed.missing or listed.fault:
            return [listed]
        if is_nifti(listed.image) or not (listed.image.is_dir() or looks_like_dicom(listed.image)):
            return [listed]
        if listed.root and not inside(listed.image, listed.root):
            return [listed]  # which is refused
        if self._folder is None:
            raise DataError(
                "E_LAYOUT", "the data set", "DICOM cannot be read here",
                "run medgan check on it and give the manifest.json",
            )  # fmt: skip
        frames: list[Frame] = []
        found: list[Listed] = []
        paths = _files(listed.image)
        log.info("reading the headers of %d DICOM files", len(paths))
        for path in paths:
            try:
                linked = path.is_symlink() and path.is_dir()
                if linked or (listed.root and not inside(path, listed.root)):
                    raise DataError(
                        "E_OUTSIDE", "a file", "a link leads out of the data folder",
                        "copy its target into the folder",
                    )  # fmt: skip
                frames += read_frames(path)
            except DataError as fault:
                found.append(replace(listed.with_image(path), name=str(path), fault=fault))
        if listed.image.is_file():  # the series that this file belongs to
            wanted = {frame.series for frame in frames if frame.path == listed.image}
            frames = [frame for frame in frames if frame.series in wanted]
            found = [fault for fault in found if fault.image == listed.image]
        lost = {fault.image.parent for fault in found if fault.image.is_file()}
        series = [
            replace(one, damaged=any(frame.path.parent in lost for frame in one.frames))
            for one in group_series(frames)
        ]
        return [self._listed(one, listed) for one in series] + found

    def _listed(self, series: Series, at: Listed) -> Listed:
        return replace(
            at.with_image(series.first.path), name=series.name,
            subject=at.subject or series.subject, series=series,
        )  # fmt: skip

    def ready(self, listed: Listed, case: str) -> tuple[Listed, tuple[str, ...]]:
        """A scan that can be read as NIfTI, and what was corrected.

        Args:
            listed: as `expand` gave it.
            case: its pseudonym.

        Raises:
            DataError: any of DICOM's; those in `IGNORED` leave the series out.
            EnvironmentFailure: E_DISK.
        """
        if listed.fault is not None:
            fault = listed.fault
            raise DataError(fault.code, case, fault.what, fault.remedy)
        if listed.series is None:
            return listed, ()
        volume, notes = self.volume(listed.series, case)
        assert self._folder is not None
        path = self._folder / f"{case}.nii.gz"
        write_converted(volume, path)
        return replace(listed.with_image(path), root=None), notes

    def volume(self, series: Series, case: str) -> tuple[Volume, tuple[str, ...]]:
        """The voxels of a series on its own grid, and what was corrected.

        Raises:
            DataError: any of DICOM's.
        """
        check_wanted(series, case, self._modality)
        check_consistent(series, case)
        stack = stack_slices(series, case)
        voxels, notes = read_voxels(stack.frames, self._decoder, case)
        if series.copies:
            notes = (*notes, f"{series.copies} identical copies left out")
        if series.damaged:
            notes = (
                *notes,
                "a file in its folder is damaged: its first or last slice may be missing",
            )
        if not series.first.patient:
            notes = (*notes, "no PatientID: the study is taken as the subject")
        return Volume(voxels, stack.affine), (*stack.notes, *notes)


def _files(source: Path) -> list[Path]:
    """DICOM files below a folder or in the folder of a file, and files that may be damaged ones."""
    if not source.is_dir():
        return sorted(
            path
            for path in source.parent.iterdir()
            if not path.name.startswith(".") and looks_like_dicom(path)
        )
    paths = files_below(source)
    known = {path for path in paths if looks_like_dicom(path)}
    folders = {path.parent for path in known}
    return [
        path
        for path in paths
        if path in known or path.is_dir() or (path.parent in folders and may_be_damaged_dicom(path))
    ]
