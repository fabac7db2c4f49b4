"""Uploads, streamed to a private folder: never more than a limit, never in memory."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from medgan.deployment.serving.refusals import malformed, too_large

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_PARTS, MOST_FIELD = 32, 2**14
"""Parts of a form, and bytes of one that is no file."""
_REMEDY = "send multipart/form-data, such as curl -F scan=@FILE"
_MAGIC = {b"\x1f\x8b": ".nii.gz", b"PK": ".zip"}
logging.getLogger("python_multipart.multipart").setLevel(logging.CRITICAL + 1)


class Upload:
    """A form as it comes in: files go to the folder under numbers, fields stay here.

    The names of files that the client states are not looked at, since they may be those of
    patients; what a file is, its first bytes say.

    Args:
        content_type: of the request.
        folder: private and empty.
        most_bytes: of the whole body.

    Attributes:
        files: by the name of their field.
        fields: text by name.

    Raises:
        Refused: E_REQUEST, 400.
    """

    def __init__(self, content_type: str, folder: Path, most_bytes: int) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise malformed("its body is no form", _REMEDY)
        self.files: dict[str, Path] = {}
        self.fields: dict[str, str] = {}
        self._folder, self._most = folder, most_bytes
        self._received, self._parts, self._ended = 0, 0, False
        self._header, self._value, self._headers = b"", b"", dict[bytes, bytes]()
        self._name, self._field = "", bytearray()
        self._file: IO[bytes] | None = None
        self._parse_options = parse_options_header
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._end,
            "on_header_field": self._header_name, "on_header_value": self._header_value,
            "on_header_end": self._header_end, "on_headers_finished": self._headers_finished,
            "on_end": self._finished,
        }  # fmt: skip
        self._parser = MultipartParser(boundary, callbacks)

    async def receive(self, chunks: AsyncIterator[bytes]) -> None:
        """Takes the body to its end.

        Raises:
            Refused: E_REQUEST, 400; E_UPLOAD, 413.
        """
        from python_multipart.exceptions import FormParserError

        try:
            async for chunk in chunks:
                self._received += len(chunk)
                if self._received > self._most:
                    raise too_large(f"it is larger than {self._most // 2**20} MB")
                if chunk:
                    self._parser.write(chunk)
            if not self._ended:
                raise malformed("its form ends early", _REMEDY)
        except FormParserError:
            raise malformed("its form is damaged", _REMEDY) from None
        finally:
            if self._file is not None:
                self._file.close()
        self.files = {name: _with_ending(path) for name, path in self.files.items()}

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise malformed(f"its form has more than {MOST_PARTS} parts", _REMEDY)
        self._headers, self._name, self._field = {}, "", bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        kind, options = self._parse_options(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        known = {*self.files, *self.fields}
        if kind != b"form-data" or not 0 < len(self._name) <= 64 or self._name in known:
            raise malformed("a part of its form has no name of its own", _REMEDY)
        if b"filename" in options or b"filename*" in options:
            path = self._folder / f"{self._parts:02d}"
            self.files[self._name] = path
            self._file = path.open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif len(self._field) + end - start > MOST_FIELD:
            raise malformed(f"a field of its form has more than {MOST_FIELD} bytes", _REMEDY)
        else:
            self._field += data[start:end]

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            return
        try:
            self.fields[self._name] = self._field.decode()
        except UnicodeDecodeError:
            raise malformed("a field of its form is no text", "send UTF-8") from None

    def _finished(self) -> None:
        self._ended = True


def _with_ending(path: Path) -> Path:
    """The file under a name that says what it is, as readers expect."""
    with path.open("rb") as file:
        start = file.read(2)
    return path.rename(path.with_name(path.name + _MAGIC.get(start, ".nii")))
