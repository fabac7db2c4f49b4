"""Pixels of DICOM files. Compressed ones are decoded in a child process with limited memory.

Most decoders are C libraries, and damaged JPEG and JPEG 2000 streams can crash them; others may
expand without end. The child gets paths on its standard input and answers with arrays.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from medgan.core.errors import DataError
from medgan.data.dicom.files import quiet_pydicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Uncompressed: implicit and explicit little endian, explicit big endian."""
RLE = "1.2.840.10008.1.2.5"
PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline, 8 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pyjpegls",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": "pylibjpeg",  # JPEG 2000
    RLE: "pydicom",
}
"""pydicom's plugin that decodes each compressed transfer syntax."""
SECONDS = 60.0
"""After this time a decoder is stopped."""
CHILD_BYTES = 12 * 2**30
"""Address space of the child."""
_ITEM = b"\xfe\xff\x00\xe0"
"""Start of compressed pixel data."""
_END = b"\xff\xd9"
"""End of JPEG, JPEG-LS and JPEG 2000 streams."""


def check_syntax(syntax: str, case: str) -> None:
    """Whether a transfer syntax can be decoded.

    Raises:
        DataError: E_SYNTAX, with the standard's name of it.
    """
    if syntax in NATIVE or syntax in PLUGINS:
        return
    from pydicom.uid import UID

    name = UID(syntax).name
    if name == syntax:  # a private one, whose number may name the maker
        name = "of a private kind"
    raise DataError(
        "E_SYNTAX", case, f"transfer syntax {name}, which is not read", "export it uncompressed"
    )


class Decoder:
    """Reads stored pixel values; owns the child until it is closed."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def read(self, path: Path, syntax: str, numbers: Sequence[int], case: str) -> np.ndarray:
        """Frames of a file as they are stored.

        Args:
            path: the file.
            syntax: its transfer syntax.
            numbers: of the frames.
            case: pseudonym of the series.

        Returns:
            Integers (N, rows, columns).

        Raises:
            DataError: E_SYNTAX, E_PIXELS, E_TRUNCATED, E_UNREADABLE.
        """
        check_syntax(syntax, case)
        if syntax in NATIVE:
            found = _read(path, numbers, syntax)
        else:
            found = self._ask(path, numbers, syntax)
        if isinstance(found, np.ndarray):
            return found
        what, remedy = _FAULTS[found]
        raise DataError(found, case, what, remedy)

    def _ask(self, path: Path, numbers: Sequence[int], syntax: str) -> "np.ndarray | str":
        if self._child is None:
            self._child = _start()
        child = self._child
        watchdog = threading.Timer(SECONDS + len(numbers), child.kill)
        watchdog.start()
        try:
            request = {"path": os.fspath(path), "numbers": list(numbers), "syntax": syntax}
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            return _answer(child.stdout)
        except (OSError, EOFError, ValueError):
            self.close()  # it crashed or was stopped; the next file gets a new one
            return "E_PIXELS"
        except BaseException:  # half an answer must not be taken for that to the next request
            self.close()
            raise
        finally:
            watchdog.cancel()


_FAULTS = {
    "E_PIXELS": ("pixels of a slice cannot be decoded", "export the series again"),
    "E_TRUNCATED": ("pixels of a slice end early", "copy or export the series again"),
    "E_UNREADABLE": ("a file is missing or may not be read", "check that the file is there"),
}


def _start() -> "subprocess.Popen[bytes]":
    # The child must import the same medgan.
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    code = "from medgan.data.dicom.decoder import serve; serve()"
    return subprocess.Popen(  # nosec B603 # this Python, fixed arguments
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        start_new_session=True,
    )  # fmt: skip


def _answer(stream: IO[bytes]) -> "np.ndarray | str":
    line = stream.readline()
    if not line:
        raise EOFError
    head = json.loads(line)
    if "code" in head:
        return str(head["code"])
    size = int(head["bytes"])
    data = bytearray()
    while len(data) < size:
        part = stream.read(min(size - len(data), 2**24))
        if not part:
            raise EOFError
        data += part
    return np.frombuffer(data, dtype=head["dtype"]).reshape(head["shape"])


def serve() -> None:
    """The child: answers each line of a request with a line and, after success, bytes."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold pixels
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is dropped
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        found = _read(Path(request["path"]), request["numbers"], request["syntax"])
        if isinstance(found, np.ndarray):
            found = np.ascontiguousarray(found)
            head = {"dtype": found.dtype.str, "shape": found.shape, "bytes": found.nbytes}
            answers.write(json.dumps(head).encode() + b"\n")
            answers.write(found.data)
        else:
            answers.write(json.dumps({"code": found}).encode() + b"\n")
        answers.flush()


def _read(path: Path, numbers: Sequence[int], syntax: str) -> "np.ndarray | str":
    """Frames (N, rows, columns), or the code of what is wrong."""
    import pydicom
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path, force=True)
            if "PixelData" not in header:
                return "E_TRUNCATED"
            header.file_meta.TransferSyntaxUID = UID(syntax)
            if _ends_early(header, syntax):
                return "E_TRUNCATED"
            if _differs_from_header(header, syntax):
                return "E_PIXELS"
            decoder = get_decoder(UID(syntax))
            plugin = PLUGINS.get(syntax, "")
            # The list is known to be sorted, which is what the iterator wants.
            frames = decoder.iter_array(
                header, indices=list(numbers), raw=True, decoding_plugin=plugin, validate=True
            )
            return np.stack([frame for frame, _ in frames])
    except OSError as error:
        return "E_UNREADABLE" if error.errno is not None else "E_PIXELS"
    except EOFError:
        return "E_TRUNCATED"
    except Exception:  # decoders raise nearly anything on damaged streams
        return "E_PIXELS"


def _differs_from_header(header: "Dataset", syntax: str) -> bool:
    """Whether pixels are stored differently than the header says: they would be scrambled."""
    from pydicom.encaps import generate_frames

    count = max(1, int(header.get("NumberOfFrames") or 1))
    rows, columns = int(header.Rows), int(header.Columns)
    if syntax in NATIVE:
        surplus = len(header.PixelData) - count * _frame_bytes(header)
        compressed = surplus > 1 and header.PixelData.startswith(_ITEM)
        # Some padding is common, a whole frame is not.
        return (
            compressed
            or surplus >= _frame_bytes(header)
            or bool(header["PixelData"].is_undefined_length)
        )
    sizes = map(_size_in, generate_frames(header.PixelData, number_of_frames=count))
    return any(size not in (None, (rows, columns)) for size in sizes)


def _frame_bytes(header: "Dataset") -> int:
    bits = int(header.BitsAllocated) * int(header.get("SamplesPerPixel", 1))
    return int(header.Rows) * int(header.Columns) * bits // 8


def _size_in(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns in a stream of JPEG, JPEG-LS or JPEG 2000.

    Reference: ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1.
    """

    def number(at: int, size: int) -> int:
        return int.from_bytes(stream[at : at + size], "big")

    if stream.startswith(b"\xff\x4f\xff\x51"):
        return number(12, 4) - number(20, 4), number(8, 4) - number(16, 4)
    at = 2
    while stream.startswith(b"\xff\xd8") and at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return number(at + 5, 2), number(at + 7, 2)
        at += 1 if marker == 0xFF else 2 + max(2, number(at + 2, 2))
    return None


def _ends_early(header: "Dataset", syntax: str) -> bool:
    """Whether there are fewer bytes than the header says; decoders of JPEG would fill in grey."""
    from pydicom.encaps import generate_frames

    count = max(1, int(header.get("NumberOfFrames") or 1))
    if syntax in NATIVE:
        return len(header.PixelData) < count * _frame_bytes(header)
    frames = list(generate_frames(header.PixelData, number_of_frames=count))
    if len(frames) < count:
        return True
    return syntax != RLE and any(not f.rstrip(b"\0").endswith(_END) for f in frames)
