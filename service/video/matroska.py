"""What Matroska says of its video tracks and OpenCV does not tell rightly (RFC 9559): turn, mirror, times of packets.

EBML (RFC 8794): an element is an ID, whose first set bit tells its length, a size likewise, and its content.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container, Iterator
from typing import BinaryIO

from service.video.orientation import UPRIGHT, Orientation

_EBML, _SEGMENT, _TRACKS, _ENTRY = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE
_KIND, _VIDEO, _PROJECTION, _YAW, _PITCH, _ROLL = 0x83, 0xE0, 0x7670, 0x7673, 0x7674, 0x7675
_NUMBER, _INFO, _SCALE = 0xD7, 0x1549A966, 0x2AD7B1
_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK, _GROUP, _BLOCK = 0x1F43B675, 0xE7, 0xA3, 0xA0, 0xA1
_VIDEO_KIND = 1
_DEFAULT_SCALE = 1_000_000  # nanoseconds
# More of them, or a longer list of tracks, is a broken file, or one that wants to be read for long.
_MOST_ELEMENTS, _MOST_BYTES = 4096, 1 << 20
_MOST_BLOCKS = 1 << 20

Element = tuple[int, int, int]  # ID, start and end of the content


def orientations(file: BinaryIO) -> list[Orientation]:
    """Of the video tracks, in order; none where the file is no Matroska, or broken."""
    return [
        _orientation(*(_angle(entry.get(angle)) for angle in (_YAW, _PITCH, _ROLL)))
        for entry in _videos(file, _segment(file))
    ]


def is_live(file: BinaryIO) -> bool:
    """Whether it was written without knowing its length: it promises none."""
    header = next(_elements(file, 0, file.seek(0, 2)), None)
    if header is None:
        return False
    file.seek(header[2])
    head = file.read(12)
    return head[:4] == _SEGMENT.to_bytes(4, "big") and len(head) == 12 and _sized(head[4:])[0] is None


def packet_seconds(file: BinaryIO) -> list[float]:
    """Timestamps of the first video track's packets, sorted; seconds by the file's own clock. Reads all of the file's
    heads of blocks, some microseconds each; none where the file is no Matroska, or broken."""
    segment = _segment(file)
    videos = _videos(file, segment)
    if segment is None or not videos:
        return []
    track = int.from_bytes(videos[0].get(_NUMBER, b""), "big")
    scale, cluster, found = _DEFAULT_SCALE, 0, list[int]()
    for kind, start, end in _elements(file, *segment[1:], entered=(_INFO, _CLUSTER, _GROUP), most=_MOST_BLOCKS):
        if kind in (_SCALE, _TIMESTAMP):
            file.seek(start)
            value = int.from_bytes(file.read(min(end - start, 8)), "big")
            scale, cluster = (value or scale, cluster) if kind == _SCALE else (scale, value)
        elif kind in (_SIMPLE_BLOCK, _BLOCK):
            file.seek(start)
            number, head = _sized(file.read(10))
            if number == track and len(head) >= 2:
                found.append(cluster + int.from_bytes(head[:2], "big", signed=True))
    return sorted(timestamp * scale / 1e9 for timestamp in found)


def _segment(file: BinaryIO) -> Element | None:
    end = file.seek(0, 2)
    header = next(_elements(file, 0, end), None)
    if header is None or header[0] != _EBML:
        return None
    segment = next(_elements(file, header[2], end), None)
    return segment if segment is not None and segment[0] == _SEGMENT else None


def _videos(file: BinaryIO, segment: Element | None) -> list[dict[int, bytes]]:
    """The small elements of each video track, by their IDs."""
    found = _elements(file, *segment[1:]) if segment else iter(())
    tracks = next((each for each in found if each[0] == _TRACKS), None)
    if tracks is None or tracks[2] - tracks[1] > _MOST_BYTES:
        return []
    entries = [dict(_contents(file, entry)) for entry in _elements(file, *tracks[1:]) if entry[0] == _ENTRY]
    return [entry for entry in entries if int.from_bytes(entry.get(_KIND, b""), "big") == _VIDEO_KIND]


def _orientation(yaw: float, pitch: float, roll: float) -> Orientation:
    """As FFmpeg and players have it: a mirrored picture is one seen from behind; what leaves the plane is ignored."""
    if pitch or abs(yaw) not in (0.0, 180.0) or roll % 90.0:
        return UPRIGHT
    return Orientation(int(-roll % 360), mirrored=yaw != 0.0)


def _contents(file: BinaryIO, entry: Element) -> Iterator[tuple[int, bytes]]:
    """The small elements of a track, those of its projection too."""
    for kind, start, end in _elements(file, entry[1], entry[2], entered=(_VIDEO, _PROJECTION)):
        if end - start <= 8:
            file.seek(start)
            yield kind, file.read(end - start)


def _angle(data: bytes | None) -> float:
    """Degrees."""
    if data is None or len(data) not in (4, 8):
        return 0.0
    angle: float = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
    return angle if math.isfinite(angle) else 0.0


def _elements(
    file: BinaryIO, start: int, end: int, *, entered: Container[int] = (), most: int = _MOST_ELEMENTS
) -> Iterator[Element]:
    """Between two positions; one of unknown size goes on to the end; what is broken ends them.

    entered: IDs whose contents come next. They lie where their parent's next element would, so none need be counted.
    """
    for _ in range(most):
        if start >= end:
            return
        file.seek(start)
        data = file.read(13)  # of the ID 4 at most, of the size 8
        length = 9 - data[0].bit_length() if data and data[0] else 9
        if length > 4 or len(data) <= length:
            return
        size, rest = _sized(data[length:])
        if size is None and not rest:
            return
        kind, content = int.from_bytes(data[:length], "big"), start + len(data) - len(rest)
        after = end if size is None else min(content + size, end)
        yield kind, content, after
        start = content if kind in entered else after


def _sized(data: bytes) -> tuple[int | None, bytes]:
    """A number of EBML, whose first set bit tells its length, and the bytes behind it; None: unknown, or broken."""
    length = 9 - data[0].bit_length() if data and data[0] else 9
    if length > 8 or len(data) < length:
        return None, b""
    value = int.from_bytes(data[:length], "big") & (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value, data[length:]
