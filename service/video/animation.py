"""How long the last picture of a GIF or an animated PNG is shown: OpenCV tells their mean rate, MediaInfo nothing."""

from __future__ import annotations

import struct
from typing import BinaryIO

# GIF89a, 23: a graphic control extension of four bytes, the end of its block, and a picture or another extension.
_GIF_CONTROL = b"\x21\xf9\x04"
# What FFmpeg, as browsers do, makes of a delay of 0.
_GIF_DEFAULT_SECONDS = 0.1
# PNG (third edition), 11.3.6.2.
_PNG_CONTROL = b"fcTL"
_PIECE_BYTES = 1 << 20


def last_delay_seconds(file: BinaryIO) -> float | None:
    """Of the last picture; None of a file that is neither, or is one picture."""
    file.seek(0)
    head = file.read(8)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        found = _last(file, _GIF_CONTROL, 8)
        return None if found is None else struct.unpack("<H", found[4:6])[0] / 100 or _GIF_DEFAULT_SECONDS
    if head == b"\x89PNG\r\n\x1a\n":
        found = _last(file, _PNG_CONTROL, 28)
        if found is None:
            return None
        numerator, denominator = struct.unpack(">HH", found[24:28])
        return float(numerator / (denominator or 100))
    return None


def _last(file: BinaryIO, name: bytes, count: int) -> bytes | None:
    """The last `count` bytes that begin with a name, read from the file's end."""
    end = file.seek(0, 2)
    while end > 0:
        start = max(0, end - _PIECE_BYTES)
        file.seek(start)
        data = file.read(end - start + count)
        at = data.rfind(name, 0, end - start + len(name) - 1)
        if at >= 0:
            return data[at : at + count] if at + count <= len(data) else None
        end = start
    return None
