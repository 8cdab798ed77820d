"""multipart/form-data (RFC 7578) as a stream: each part is handed on in pieces, and none is held in memory."""

from __future__ import annotations

from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MalformedUpload

# What may surround the files in a form: boundaries, headers, other fields.
FORM_BYTES = 64 * 1024

Write = Callable[[memoryview], object]


class Form:
    """take: of a part's name and its file name, None where it is no file, says what takes its bytes; None: nobody.

    What nobody takes is counted and thrown away. Raises MalformedUpload, and what `take` and its answers raise.
    """

    def __init__(
        self,
        boundary: bytes,
        take: Callable[[str, str | None], Write | None],
        max_parts: int,
        max_other_bytes: int = FORM_BYTES,
    ) -> None:
        self._take = take
        self._max_parts = max_parts
        self._max_other_bytes = max_other_bytes
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._write: Write | None = None
        self._num_parts = 0
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
        self._num_parts += 1
        if self._num_parts > self._max_parts:
            raise MalformedUpload(f"the form has more than {self._max_parts} parts; send fewer")

    def _header(self, into: bytearray, data: bytes) -> None:
        self._count_other(len(data))
        into += data

    def _count_other(self, num_bytes: int) -> None:
        """What is no file is bounded too: it is read and thrown away."""
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
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        file_name = options.get(b"filename")
        self._write = self._take(
            options.get(b"name", b"").decode("utf-8", "replace"),
            None if file_name is None else file_name.decode("utf-8", "replace"),
        )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._write is not None:
            self._write(memoryview(data)[start:end])
        else:
            self._count_other(end - start)

    def _end(self) -> None:
        self._closed = True
