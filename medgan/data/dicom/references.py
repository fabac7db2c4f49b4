"""References of DICOM objects to the files and frames they were made from."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from medgan.data.dicom.frames import Frame
from medgan.data.dicom.sources import Source, slice_uids

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def refer(made: "Dataset", source: Source) -> None:
    """Replaces references to slices by references to the files and frames that hold them."""
    frames_by_uid = slice_uids(source)
    for element in _sequences(made):
        items = element.value
        named = [frames_by_uid.get(str(item.get("ReferencedSOPInstanceUID", ""))) for item in items]
        for item, frame in zip(items, named, strict=True):
            if frame is not None:
                item.update(reference(frame))
                if element.keyword == "ReferencedInstanceSequence":  # names files only
                    item.pop("ReferencedFrameNumber", None)
        if any(named):
            items[:] = once(list(items))


def _sequences(of: "Dataset") -> "Iterator[Any]":
    for element in of:
        if element.VR == "SQ":
            for item in element.value:
                yield from _sequences(item)
            yield element


def reference(frame: Frame) -> "Dataset":
    """The item that references a slice."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = frame.sop_class
    item.ReferencedSOPInstanceUID = frame.instance
    if frame.enhanced:
        item.ReferencedFrameNumber = frame.number + 1
    return item


def once(items: "Sequence[Dataset]") -> "list[Dataset]":
    """Items with each file once, with all of its frames."""
    files: dict[str, Dataset] = {}
    for item in items:
        kept = files.setdefault(str(item.ReferencedSOPInstanceUID), item)
        if kept is not item:
            if numbers := [*_frames(kept), *_frames(item)]:
                kept.ReferencedFrameNumber = numbers
    return list(files.values())


def _frames(item: "Dataset") -> list[int]:
    value = item.get("ReferencedFrameNumber")
    if value is None:
        return []
    return [int(value)] if isinstance(value, int) else [int(one) for one in value]
