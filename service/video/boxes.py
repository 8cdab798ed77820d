"""Boxes of MP4 and QuickTime (ISO 14496-12, 4.2): a size, a type, and what they hold."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# With which a file begins.
FIRST_BOXES = (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip", b"pnot")
# More of them are a broken file, or one that wants to be read for long.
_MOST_BOXES = 1 << 16


@dataclass(frozen=True)
class Box:
    """A box's type and where its payload lies, bytes."""

    kind: bytes
    start: int
    end: int


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The boxes between two positions; what is broken ends them."""
    for _ in range(_MOST_BOXES):
        header = read(file, start, 16)
        if len(header) < 8 or start + 8 > end:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        payload = 8
        if size == 1 and len(header) == 16:
            size, payload = struct.unpack(">Q", header[8:])[0], 16
        elif size == 0:
            size = end - start
        if size < payload:
            return
        yield Box(kind, start + payload, min(start + size, end))
        start += size


def read(file: BinaryIO, at: int, count: int) -> bytes:
    """Fewer at the file's end."""
    file.seek(at)
    return file.read(count)
