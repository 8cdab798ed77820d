"""How Matroska's video tracks are turned and mirrored: OpenCV tells the first one's turn, MediaInfo nothing (RFC 9559,
5.1.4.1.28.41).

EBML (RFC 8794): an element is an ID, whose first set bit tells its length, a size likewise, and its content.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import BinaryIO

from service.video.orientation import UPRIGHT, Orientation

_EBML, _SEGMENT, _TRACKS, _ENTRY = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE
_KIND, _VIDEO, _PROJECTION, _YAW, _PITCH, _ROLL = 0x83, 0xE0, 0x7670, 0x7673, 0x7674, 0x7675
_VIDEO_KIND = 1
# More of them, or a longer list of tracks, is a broken file, or one that wants to be read for long.
_MOST_ELEMENTS, _MOST_BYTES = 4096, 1 << 20

Element = tuple[int, int, int]  # ID, start and end of the content


def orientations(file: BinaryIO) -> list[Orientation]:
    """Of the video tracks, in order; none where the file is no Matroska, or broken."""
    end = file.seek(0, 2)
    header = next(_elements(file, 0, end), None)
    if header is None or header[0] != _EBML:
        return []
    segment = next(_elements(file, header[2], end), None)
    if segment is None or segment[0] != _SEGMENT:
        return []
    tracks = next((found for found in _elements(file, segment[1], segment[2]) if found[0] == _TRACKS), None)
    if tracks is None or tracks[2] - tracks[1] > _MOST_BYTES:
        return []
    entries = [dict(_contents(file, entry)) for entry in _elements(file, *tracks[1:]) if entry[0] == _ENTRY]
    videos = [entry for entry in entries if int.from_bytes(entry.get(_KIND, b""), "big") == _VIDEO_KIND]
    return [_orientation(*(_angle(entry.get(angle)) for angle in (_YAW, _PITCH, _ROLL))) for entry in videos]


def _orientation(yaw: float, pitch: float, roll: float) -> Orientation:
    """As FFmpeg and players have it: a mirrored picture is one seen from behind; what leaves the plane is ignored."""
    if pitch or abs(yaw) not in (0.0, 180.0) or roll % 90.0:
        return UPRIGHT
    return Orientation(int(-roll % 360), mirrored=yaw != 0.0)


def _contents(file: BinaryIO, entry: Element) -> Iterator[tuple[int, bytes]]:
    """The small elements of a track, those of its projection too."""
    for kind, start, end in _elements(file, entry[1], entry[2]):
        if kind in (_VIDEO, _PROJECTION):
            yield from _contents(file, (kind, start, end))
        elif end - start <= 8:
            file.seek(start)
            yield kind, file.read(end - start)


def _angle(data: bytes | None) -> float:
    """Degrees."""
    if data is None or len(data) not in (4, 8):
        return 0.0
    angle: float = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
    return angle if math.isfinite(angle) else 0.0


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[Element]:
    """Between two positions; one of unknown size goes on to the end; what is broken ends them."""
    for _ in range(_MOST_ELEMENTS):
        if start >= end:
            return
        file.seek(start)
        data = file.read(12)
        if not data or not data[0]:
            return
        length = 9 - data[0].bit_length()
        if length > 4 or len(data) <= length or not data[length]:
            return
        width = 9 - data[length].bit_length()
        size = int.from_bytes(data[length : length + width], "big") & (1 << 7 * width) - 1
        content = start + length + width
        unknown = size == (1 << 7 * width) - 1
        start = end if unknown else min(content + size, end)
        yield int.from_bytes(data[:length], "big"), content, start
