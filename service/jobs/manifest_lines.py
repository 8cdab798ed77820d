"""A manifest's lines: UTF-8, packed or not, one after another, and no more of them in memory than a row may have."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator

from service.jobs.errors import BadInput

# From one row to the next: a line, a quoted cell that never ends, blank lines that gzip made of nothing.
MAX_ROW_CHARACTERS = 1 << 20
GZIP = b"\x1f\x8b"
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")  # its marks, read as UTF-8
_NO_TEXT = re.compile("[\udc80-\udcff\0]")


class Lines:
    """number: of the line read last.

    name: for messages. Iterating raises BadInput for what is no UTF-8, and for a row of more than `MAX_ROW_CHARACTERS`.
    """

    def __init__(self, name: str, text: io.TextIOWrapper) -> None:
        self.name = name
        self.number = 0
        self._text = text
        self._room = MAX_ROW_CHARACTERS
        self._first = 1

    @property
    def where(self) -> str:
        """The first line after the row before, without empty ones: `m.csv line 7`."""
        return f"{self.name} line {self._first}"

    def next_row(self) -> None:
        """What comes is of another row."""
        self._room = MAX_ROW_CHARACTERS
        self._first = self.number + 1

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self._room + 1):
            self.number += 1
            self._room -= len(line)
            if self._first == self.number and not line.strip("\r\n"):
                self._first += 1
            if self.number == 1 and line.startswith(_UTF16):
                raise BadInput(f"{self.name} is UTF-16; save it as UTF-8 (of spreadsheets: “CSV UTF-8”)")
            if self._room < 0:
                raise BadInput(
                    f"{self.where}: a row of more than {MAX_ROW_CHARACTERS} characters; is a quote left open there?",
                    limit=MAX_ROW_CHARACTERS,
                )
            if found := _NO_TEXT.search(line):
                raise BadInput(f"{self.name} line {self.number}, column {found.start() + 1}: {_no_text(found[0])}")
            yield line


def opened_text(file: io.BufferedReader) -> io.TextIOWrapper:
    """Of UTF-8, with or without a mark, or what is packed of it; what is none is kept for `Lines` to tell."""
    unpacked = gzip.GzipFile(fileobj=file) if file.peek(len(GZIP)).startswith(GZIP) else file
    return io.TextIOWrapper(unpacked, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _no_text(letter: str) -> str:
    if letter == "\0":
        return "a NUL byte, which no text has; is it UTF-16? Save it as UTF-8"
    byte = f"{ord(letter) & 0xFF:02x}"
    return f"the byte 0x{byte} is no UTF-8; save it as UTF-8, or write \\x{byte} where a file's name has that byte"
