"""The layouts of data sets, and which of them reads a source."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from medgan.core.errors import DataError
from medgan.data.layouts import (
    bids,
    decathlon,
    dicom,
    loose,
    manifest,
    nifti,
    nnunet,
    table,
)
from medgan.data.layouts.listed import Listed, Selection
from medgan.data.manifest import IMAGE


class Layout(NamedTuple):
    """How data sets of one kind are recognised and listed."""

    matches: Callable[[Path], bool]
    list_scans: Callable[[Path, Selection], list[Listed]]


LAYOUTS = {
    "NIfTI file": Layout(nifti.matches, nifti.list_scans),
    "table": Layout(table.matches, table.list_scans),
    "nnU-Net": Layout(nnunet.matches, nnunet.list_scans),
    "Decathlon": Layout(decathlon.matches, decathlon.list_scans),
    "manifest": Layout(manifest.matches, manifest.list_scans),
    "BIDS": Layout(bids.matches, bids.list_scans),
    "DICOM": Layout(dicom.matches, dicom.list_scans),
    "loose files": Layout(loose.matches, loose.list_scans),
}
"""The first one that matches a source lists it."""


def list_scans(source: Path, selection: Selection = Selection()) -> list[Listed]:  # noqa: B008 - frozen
    """The scans that a data set names, unread.

    Args:
        source: the data set.
        selection: which of its scans and channels.

    Raises:
        DataError: E_NO_SCANS, E_LAYOUT, E_MIXED, E_DATASET, E_SUFFIX, E_CHANNEL.
    """
    source = source.resolve()
    if source.name.upper() == "DICOMDIR" and source.is_file():
        source = source.parent  # what it is an index of
    if not source.exists():
        raise DataError("E_NO_SCANS", "data.source", "does not exist", "check the path")
    layout = next((one for one in LAYOUTS.values() if one.matches(source)), None)
    if layout is None:
        workbook = source.suffix.lower() in (".xls", ".xlsx", ".ods")
        raise DataError(
            "E_LAYOUT", "data.source", "a workbook" if workbook else "no layout that is known",
            "save it as CSV" if workbook else
            "give a folder of NIfTI or DICOM files, a Decathlon, nnU-Net or BIDS folder, or a CSV",
        )  # fmt: skip
    listing = layout.list_scans(source, selection)
    if not listing:
        raise no_scans()
    return _with_channels(listing, selection.channels)


def no_scans() -> DataError:
    """The error of a data set of which nothing is there, or nothing was asked for."""
    remedy = "check the folder, data.subjects and data.session"
    return DataError("E_NO_SCANS", "data.source", "no scan found", remedy)


def _with_channels(listing: list[Listed], wanted: Sequence[str]) -> list[Listed]:
    """The scans with the channels that are asked for, in that order; by default with all."""
    names = list(dict.fromkeys(c for one in listing for c in (*one.images, *one.missing)))
    if not wanted and len(names) == 1:
        wanted = names = [IMAGE]
    if len(wanted) == 1 and (len(names) == 1 and names[0] in (IMAGE, *wanted)):
        return [replace(one, images=dict.fromkeys(wanted, one.image)) for one in listing]
    if unknown := [channel for channel in wanted if channel not in names]:
        several = len(names) > 1 or names[0] != IMAGE
        raise DataError(
            "E_CHANNEL", "data.channels",
            f"no scan has {', '.join(unknown)}" if several else "there is one image a scan",
            f"choose among {', '.join(names)}" if several
            else "list the scans in a CSV with a column for each channel",
        )  # fmt: skip
    return [
        replace(
            one, images={c: one.images[c] for c in wanted or names if c in one.images},
            missing=tuple(c for c in wanted or names if c not in one.images),
        )
        for one in listing
    ]  # fmt: skip
