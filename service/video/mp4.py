"""What MP4 and QuickTime files say of their tracks and MediaInfo does not: edits, the display matrix, the last sample.

Of ISO 14496-12 these boxes are read, whatever the file's length in some dozen short reads: `mvhd` (8.2.2), `tkhd`
(8.3.2), `elst` (8.6.6), `mdhd` (8.4.2), `hdlr` (8.4.3), `stts` and `ctts` (8.6.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from service.video.orientation import UPRIGHT, Orientation, of_matrix

_BRANDS = (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip", b"pnot")
# More of them are a broken file, or one that wants to be read for long.
_MOST_BOXES, _MOST_EDITS = 4096, 1024
# Films count in milliseconds or finer, tracks in their own ticks.
_LEAST_TRIM_SECONDS = 2e-3
# B-frames move a sample by no more places than that (H.264 and H.265: 16).
_TAIL = 32


@dataclass(frozen=True)
class Mp4Track:
    """A video track, seconds. start_seconds: of its first picture, by an empty edit, after the film's start.

    duration_seconds: of what its edits show; None in a fragmented file. last_sample_seconds: the duration of the
    sample that is shown last. is_trimmed: edits show less than there is.
    """

    enabled: bool
    orientation: Orientation
    start_seconds: float
    duration_seconds: float | None
    last_sample_seconds: float | None
    is_trimmed: bool = False


@dataclass(frozen=True)
class Box:
    """A box's type and where its payload lies, bytes."""

    kind: bytes
    start: int
    end: int


def video_tracks(file: BinaryIO) -> list[Mp4Track]:
    """The video tracks in order; none where the file is no MP4, or broken."""
    try:
        return list(_tracks(file))
    except (struct.error, ValueError, ZeroDivisionError):
        return []


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The boxes between two positions; what is broken ends them."""
    for _ in range(_MOST_BOXES):
        header = _read(file, start, 16)
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


def _tracks(file: BinaryIO) -> Iterator[Mp4Track]:
    if _read(file, 4, 4) not in _BRANDS:
        return
    moov = next((box for box in boxes(file, 0, _length(file)) if box.kind == b"moov"), None)
    if moov is None:
        return
    inside = {box.kind: box for box in boxes(file, moov.start, moov.end)}
    film_scale, _ = _scale_and_duration(file, inside[b"mvhd"]) if b"mvhd" in inside else (0, 0)
    for box in boxes(file, moov.start, moov.end):
        if box.kind == b"trak":
            parts = _parts(file, box)
            if b"hdlr" in parts and _read(file, parts[b"hdlr"].start + 8, 4) == b"vide" and b"tkhd" in parts:
                yield _track(file, parts, film_scale, fragmented=b"mvex" in inside)


def _parts(file: BinaryIO, track: Box) -> dict[bytes, Box]:
    """All boxes of a track that matter, by type."""
    found: dict[bytes, Box] = {}
    inside = [track]
    while inside:
        for box in boxes(file, *(lambda b: (b.start, b.end))(inside.pop())):
            found.setdefault(box.kind, box)
            if box.kind in (b"edts", b"mdia", b"minf", b"stbl"):
                inside.append(box)
    return found


def _track(file: BinaryIO, parts: dict[bytes, Box], film_scale: int, *, fragmented: bool) -> Mp4Track:
    header = _read(file, parts[b"tkhd"].start, 96)
    matrix = struct.unpack(">9i", header[52:88] if header[0] == 1 else header[40:76])
    scale, duration = _scale_and_duration(file, parts[b"mdhd"]) if b"mdhd" in parts else (0, 0)
    start, shown = _edits(file, parts[b"elst"], film_scale) if b"elst" in parts else (0.0, None)
    if shown is None:
        shown = duration / scale
    return Mp4Track(
        enabled=bool(header[3] & 1),
        orientation=of_matrix(matrix) or UPRIGHT,
        start_seconds=start,
        duration_seconds=None if fragmented or shown <= 0 else shown,
        last_sample_seconds=None if fragmented else _last_sample(file, parts, scale),
        is_trimmed=bool(scale and not fragmented and shown + _LEAST_TRIM_SECONDS < duration / scale),
    )


def _scale_and_duration(file: BinaryIO, box: Box) -> tuple[int, int]:
    """Of `mvhd` and `mdhd`: ticks a second, ticks."""
    data = _read(file, box.start, 32)
    return struct.unpack(">IQ", data[20:32]) if data[0] == 1 else struct.unpack(">II", data[12:20])


def _edits(file: BinaryIO, box: Box, film_scale: int) -> tuple[float, float | None]:
    """Seconds until the first picture, and how long all edits show; None where the last goes on to the end (0)."""
    data = _read(file, box.start, 8)
    wide, count = data[0] == 1, min(struct.unpack(">I", data[4:8])[0], _MOST_EDITS)
    size = 20 if wide else 12
    table = _read(file, box.start + 8, count * size)
    edits = [struct.unpack_from(">Qq" if wide else ">Ii", table, at) for at in range(0, len(table) - size + 1, size)]
    start = shown = 0
    for duration, media_time in edits:
        if media_time == -1:
            start += 0 if shown else duration
        else:
            shown += duration
    return start / film_scale, shown / film_scale if shown else None


def _last_sample(file: BinaryIO, parts: dict[bytes, Box], scale: int) -> float | None:
    """Of the sample that is shown last, which need not be the last one of the table."""
    durations = _tail(file, parts[b"stts"], ">II") if b"stts" in parts else []
    if not durations:
        return None
    offsets = _tail(file, parts[b"ctts"], ">Ii") if b"ctts" in parts else []
    offsets = [0] * (len(durations) - len(offsets)) + offsets
    latest = shown = decoded = 0
    for duration, offset in zip(durations, offsets, strict=True):
        if decoded + offset >= latest:
            latest, shown = decoded + offset, duration
        decoded += duration
    return shown / scale


def _tail(file: BinaryIO, box: Box, entry: str) -> list[int]:
    """The values of the last samples, of a table of runs: how many samples, and their value."""
    count = struct.unpack(">I", _read(file, box.start + 4, 4))[0]
    first = max(0, count - _TAIL)
    table = _read(file, box.start + 8 + first * 8, (count - first) * 8)
    runs = list(struct.iter_unpack(entry, table[: len(table) // 8 * 8]))
    values: list[int] = []
    for length, value in reversed(runs):
        values += [value] * min(length, _TAIL - len(values))
    return values[::-1]


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _length(file: BinaryIO) -> int:
    return file.seek(0, 2)
