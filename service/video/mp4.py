"""What MP4 and QuickTime files say of their tracks and MediaInfo does not: edits, the display matrix, the last sample.

Of ISO 14496-12 these boxes are read, in some dozen short reads, and two of each fragment: `mvhd` (8.2.2), `tkhd`
(8.3.2), `elst` (8.6.6), `mdhd` (8.4.2), `hdlr` (8.4.3), `stts` and `ctts` (8.6.1); of fragments `trex` (8.8.3), `tfhd`
(8.8.7), `trun` (8.8.8) and `tfdt` (8.8.12).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from service.video.boxes import FIRST_BOXES, Box, boxes, read
from service.video.mp4_fragments import Fragments, fragments_of
from service.video.orientation import UPRIGHT, Orientation, of_matrix

# More of them are a broken file.
_MOST_EDITS = 1024
# Films count in milliseconds or finer, tracks in their own ticks.
_LEAST_TRIM_SECONDS = 2e-3
# B-frames move a sample by no more places than that (H.264 and H.265: 16).
_TAIL = 32


@dataclass(frozen=True)
class Mp4Track:
    """A track, seconds. start_seconds: of its first sample, by an empty edit, after the film's start.

    duration_seconds: of what its edits show, or of its fragments. last_sample_seconds: the duration of the sample that
    is shown last. is_trimmed: edits show less than there is.
    """

    enabled: bool
    orientation: Orientation
    start_seconds: float
    duration_seconds: float | None
    last_sample_seconds: float | None
    is_trimmed: bool = False


def video_tracks(file: BinaryIO) -> list[Mp4Track]:
    """The video tracks in order, their starts after the earliest of all tracks; none where the file is no MP4, or
    broken."""
    try:
        tracks = list(_tracks(file))
    except (struct.error, LookupError, ValueError, ZeroDivisionError):
        return []
    first = min((track.start_seconds for track, _ in tracks), default=0.0)
    return [
        replace(track, start_seconds=round(track.start_seconds - first, 6)) for track, is_video in tracks if is_video
    ]


def _tracks(file: BinaryIO) -> Iterator[tuple[Mp4Track, bool]]:
    """Of pictures and sound, and whether it is of pictures."""
    if read(file, 4, 4) not in FIRST_BOXES:
        return
    outside = list(boxes(file, 0, _length(file)))
    moov = next((box for box in outside if box.kind == b"moov"), None)
    if moov is None:
        return
    inside = {box.kind: box for box in boxes(file, moov.start, moov.end)}
    film_scale, _ = _scale_and_duration(file, inside[b"mvhd"]) if b"mvhd" in inside else (0, 0)
    for box in boxes(file, moov.start, moov.end):
        if box.kind == b"trak":
            parts = _parts(file, box)
            kind = read(file, parts[b"hdlr"].start + 8, 4) if b"hdlr" in parts else b""
            if kind in (b"vide", b"soun") and b"tkhd" in parts:
                fragments = _fragments(file, parts, inside[b"mvex"], outside) if b"mvex" in inside else None
                yield _track(file, parts, film_scale, fragments, fragmented=b"mvex" in inside), kind == b"vide"


def _fragments(file: BinaryIO, parts: dict[bytes, Box], extends: Box, outside: Sequence[Box]) -> Fragments | None:
    header = read(file, parts[b"tkhd"].start, 24)
    track_id = int.from_bytes(header[20:24] if header[0] == 1 else header[12:16], "big")
    return fragments_of(file, extends, [box for box in outside if box.kind == b"moof"], track_id)


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


def _track(
    file: BinaryIO, parts: dict[bytes, Box], film_scale: int, fragments: Fragments | None, *, fragmented: bool
) -> Mp4Track:
    header = read(file, parts[b"tkhd"].start, 96)
    matrix = struct.unpack(">9i", header[52:88] if header[0] == 1 else header[40:76])
    scale, duration = _scale_and_duration(file, parts[b"mdhd"]) if b"mdhd" in parts else (0, 0)
    start, shown = _edits(file, parts[b"elst"], film_scale) if b"elst" in parts else (0.0, None)
    track = Mp4Track(
        enabled=bool(header[3] & 1),
        orientation=of_matrix(matrix) or UPRIGHT,
        start_seconds=start,
        duration_seconds=None,
        last_sample_seconds=None,
    )
    if fragments and scale:
        # There may be samples before all fragments.
        first = 0 if b"stts" in parts and _tail(file, parts[b"stts"], ">II") else fragments.start
        return replace(
            track,
            start_seconds=start + first / scale,
            duration_seconds=max(fragments.end - first, 0) / scale or None,
            last_sample_seconds=fragments.last_sample / scale,
        )
    if fragmented:
        return track
    if shown is None:
        shown = duration / scale
    return replace(
        track,
        duration_seconds=shown if shown > 0 else None,
        last_sample_seconds=_last_sample(file, parts, scale),
        is_trimmed=bool(scale and shown + _LEAST_TRIM_SECONDS < duration / scale),
    )


def _scale_and_duration(file: BinaryIO, box: Box) -> tuple[int, int]:
    """Of `mvhd` and `mdhd`: ticks a second, ticks."""
    data = read(file, box.start, 32)
    return struct.unpack(">IQ", data[20:32]) if data[0] == 1 else struct.unpack(">II", data[12:20])


def _edits(file: BinaryIO, box: Box, film_scale: int) -> tuple[float, float | None]:
    """Seconds until the first picture, and how long all edits show; None where the last goes on to the end (0)."""
    data = read(file, box.start, 8)
    wide, count = data[0] == 1, min(struct.unpack(">I", data[4:8])[0], _MOST_EDITS)
    size = 20 if wide else 12
    table = read(file, box.start + 8, count * size)
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
    count = struct.unpack(">I", read(file, box.start + 4, 4))[0]
    first = max(0, count - _TAIL)
    table = read(file, box.start + 8 + first * 8, (count - first) * 8)
    runs = list(struct.iter_unpack(entry, table[: len(table) // 8 * 8]))
    values: list[int] = []
    for length, value in reversed(runs):
        values += [value] * min(length, _TAIL - len(values))
    return values[::-1]


def _length(file: BinaryIO) -> int:
    return file.seek(0, 2)
