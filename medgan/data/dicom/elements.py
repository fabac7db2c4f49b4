"""Values of DICOM elements in plain types, whatever a header holds."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def get_items(header: "Dataset", name: str) -> list[Any]:
    """The items of a sequence; none where it is missing or empty."""
    value = header.get(name)
    return list(value) if value else []


def get_first_item(groups: Sequence["Dataset"], name: str) -> "Dataset | None":
    """The first item of a functional group, the frame's own before the shared one."""
    for group in groups:
        if items := get_items(group, name):
            return items[0]
    return None


def get_text(header: "Dataset", name: str) -> str:
    """A text without spaces around it; empty where it is missing."""
    value = header.get(name)
    return "" if value is None else str(value).strip()


def get_terms(header: "Dataset", name: str) -> tuple[str, ...]:
    """The values of an element such as ImageType, in capitals."""
    value = header.get(name)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(term).strip().upper() for term in values)


def get_numbers(header: "Dataset | None", name: str, count: int) -> tuple[float, ...] | None:
    """A fixed count of finite numbers, or None."""
    value = None if header is None else header.get(name)
    try:
        found = tuple(float(part) for part in value) if value is not None else ()
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def get_number(header: "Dataset | None", name: str) -> float | None:
    """A finite number, or None."""
    try:
        value = None if header is None else header.get(name)
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def get_natural(header: "Dataset", name: str) -> int:
    """A whole number from 0 on; 0 where it is missing or invalid."""
    number = get_number(header, name)
    return int(number) if number is not None and 0 <= number < 2**31 else 0


def get_transfer_syntax(header: "Dataset") -> str:
    """The UID of the transfer syntax, guessed from the encoding where the file does not name it."""
    meta = getattr(header, "file_meta", None)
    named = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    implicit = header.original_encoding[0]
    return named or ("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1")
