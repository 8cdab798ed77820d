"""Whether another file lies behind the first: two videos joined byte by byte, of which players show one.

MPEG program and transport streams are made to be joined: their clock tells (`service.video.clock`).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from service.video.boxes import FIRST_BOXES, boxes

_FLV, _PNG = b"FLV", b"\x89PNG\r\n\x1a\n"
# An hour's, some; more are read for long.
_MOST_TAGS = 1 << 18
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def second_file(file: BinaryIO) -> int | None:
    """Where it begins, bytes from the start; None where there is none, or nobody can tell."""
    length = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    if head[4:8] in FIRST_BOXES:
        return _second_mp4(file, length)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _second_avi(file, length, struct.unpack("<I", head[4:8])[0])
    if head[:4] == _EBML:
        return _second_matroska(file)
    if head[:3] == _FLV:
        return _second_flv(file, length)
    if head[:8] == _PNG:
        return _second_png(file, length)
    return None


def _second_mp4(file: BinaryIO, length: int) -> int | None:
    """A film has one `moov`, and one `ftyp`, if any, in front; fragments begin with `styp`."""
    found = list(boxes(file, 0, length))
    films = [number for number, box in enumerate(found) if box.kind == b"moov"]
    if len(films) < 2:
        return None
    # Before its own `moov` the second begins as the first did.
    between = found[films[0] + 1 : films[1] + 1]
    return next((box.start - 8 for box in reversed(between) if box.kind == found[0].kind), None)


def _second_flv(file: BinaryIO, length: int) -> int | None:
    """Behind a tag comes its size, and the next tag."""
    at = 9 + 4
    for _ in range(_MOST_TAGS):
        file.seek(at)
        tag = file.read(4)
        if tag[:3] == _FLV:
            return at
        if len(tag) < 4 or at >= length:
            return None
        at += 11 + int.from_bytes(tag[1:], "big") + 4
    return None


def _second_png(file: BinaryIO, length: int) -> int | None:
    """Behind the chunk `IEND`."""
    at = 8
    while at < length:
        file.seek(at)
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        at += 12 + int.from_bytes(chunk[:4], "big")
        if chunk[4:] == b"IEND":
            file.seek(at)
            return at if file.read(8) == _PNG else None
    return None


def _second_avi(file: BinaryIO, length: int, size: int) -> int | None:
    """After `RIFF AVI ` come `RIFF AVIX` (OpenDML) of the same film."""
    at = 8 + size + size % 2
    while at + 12 <= length:
        file.seek(at)
        head = file.read(12)
        if head[:4] != b"RIFF":
            return None
        if head[8:12] == b"AVI ":
            return at
        size = struct.unpack("<I", head[4:8])[0]
        at += 8 + size + size % 2
    return None


def _second_matroska(file: BinaryIO) -> int | None:
    """Behind a segment that says how long it is (RFC 9559)."""
    at = _end_of_element(file, 0)
    if at is None:
        return None
    file.seek(at)
    end = _end_of_element(file, at) if file.read(4) == _SEGMENT else None
    if end is None:
        return None
    file.seek(end)
    return end if file.read(4) == _EBML else None


def _end_of_element(file: BinaryIO, at: int) -> int | None:
    """EBML (RFC 8794, 4.4 and 5): an ID of four bytes, a size of one to eight; all bits set: unknown."""
    file.seek(at + 4)
    data = file.read(8)
    if not data or not data[0]:
        return None
    length = 9 - data[0].bit_length()
    size = int.from_bytes(data[:length], "big") & (1 << 7 * length) - 1
    return None if size == (1 << 7 * length) - 1 else at + 4 + length + size
