"""multipart/form-data (RFC 7578) as a stream: each part is handed on in pieces, and none is held in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MalformedUpload
from service.wording import cut, said

# What may surround the files in a form: boundaries, headers, other fields.
FORM_BYTES = 64 * 1024
_PARAMETER = re.compile(rb';\s*([^=;\s]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_AS_THEY_ARE = (b"", b"7bit", b"8bit", b"binary")

Write = Callable[[memoryview], object]


@dataclass(frozen=True)
class Part:
    """One field of a form. file_name: None where it is no file, empty where a file has none; charset: of a text
    that names one."""

    name: str
    file_name: str | None = None
    charset: str | None = None


class Form:
    """take: says what takes a part's bytes, and bounds how many parts there are.

    Raises MalformedUpload, and what `take` and its answers raise.
    """

    def __init__(self, boundary: bytes, take: Callable[[Part], Write], max_other_bytes: int = FORM_BYTES) -> None:
        self._take = take
        self._max_other_bytes = max_other_bytes
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._write: Write | None = None
        self._is_file = False
        self._closed = False
        self._other_bytes = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": lambda data, start, end: self._header(self._header_name, data[start:end]),
                    "on_header_value": lambda data, start, end: self._header(self._header_value, data[start:end]),
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedUpload(f"the multipart boundary is refused: {error}") from error

    def feed(self, data: bytearray) -> None:
        """The next bytes of the body; blocks on the disk."""
        if self._closed:  # an epilogue is allowed, and means nothing
            self._count_other(len(data))
            return
        try:
            self._parser.write(bytes(data))
        except FormParserError as error:
            raise MalformedUpload(f"the multipart body breaks RFC 7578: {error}") from error

    def finish(self) -> None:
        """After the last byte."""
        if not self._closed:
            raise MalformedUpload("the multipart body ends before its last boundary; the upload was cut off")

    def _part_begin(self) -> None:
        self._headers.clear()
        self._write = None

    def _header(self, into: bytearray, data: bytes) -> None:
        self._count_other(len(data))
        into += data

    def _count_other(self, num_bytes: int) -> None:
        """What is no file is bounded too."""
        self._other_bytes += num_bytes
        if self._other_bytes > self._max_other_bytes:
            raise MalformedUpload(
                f"beside its files the form has more than {self._max_other_bytes} bytes; send the files alone"
            )

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _headers_finished(self) -> None:
        part = part_of(self._headers)
        self._is_file = part.file_name is not None
        self._write = self._take(part)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._write is not None:
            self._write(memoryview(data)[start:end])
        if not self._is_file:
            self._count_other(end - start)

    def _end(self) -> None:
        self._closed = True


def part_of(headers: dict[bytes, bytes]) -> Part:
    """Of a part's headers, names in small letters. Raises MalformedUpload for what can't be taken as it was meant."""
    disposition = headers.get(b"content-disposition", b"")
    _, options = parse_options_header(disposition)
    content_type, about = parse_options_header(headers.get(b"content-type"))
    encoding = headers.get(b"content-transfer-encoding", b"").strip().lower()
    name = _text(options.get(b"name", b""))
    if encoding not in _AS_THEY_ARE:
        raise MalformedUpload(
            f"the form's part '{cut(name)}' has Content-Transfer-Encoding {said(_text(encoding))}, which RFC 7578 gave "
            "up; send its bytes as they are, without that header"
        )
    plain = options.get(b"filename")
    file_name = _extended(disposition) if plain is None else _text(plain)
    if file_name is not None:
        if "\0" in file_name:
            raise MalformedUpload(f"the form's file is named {said(file_name)}; send a name without a zero byte")
        return Part(name, file_name)
    if content_type.startswith(b"video/") or content_type == b"application/octet-stream":
        return Part(name, "")  # RFC 7578, 4.2: a file should have a name, and need not
    charset = about.get(b"charset")
    return Part(name, charset=None if charset is None else charset.decode("latin-1").lower())


def _text(name: bytes) -> str:
    """UTF-8, as RFC 7578 has it; of an old client Latin-1, where every byte is a letter."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _extended(disposition: bytes) -> str | None:
    """The `filename*` of RFC 8187, which no form should have, and some clients send alone."""
    for key, value in _PARAMETER.findall(disposition):
        if key.lower() != b"filename*":
            continue
        charset, _, rest = value.strip().strip(b'"').partition(b"'")
        encoded = rest.partition(b"'")[2]  # after the language
        try:
            if charset.lower() in (b"utf-8", b"iso-8859-1"):
                return unquote_to_bytes(encoded).decode(charset.decode("ascii"))
        except UnicodeDecodeError:
            pass
        raise MalformedUpload(
            f"the form has filename*={cut(_text(value.strip()))}, which is not UTF-8''… of RFC 8187; send a plain "
            'filename="…" in UTF-8, as RFC 7578 has it'
        )
    return None
