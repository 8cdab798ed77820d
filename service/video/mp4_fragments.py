"""The samples of a fragmented MP4 (ISO 14496-12, 8.8): how long a track is, and how long its last picture is shown.

Of all fragments only the places are looked up; of the first and the last one that have the track the tables are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from service.video.boxes import Box, boxes, read

# More samples of one fragment are a broken file, or one that wants to be read for long.
_MOST_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Fragments:
    """Of one track, in its own ticks: where it begins and ends, and how long its sample that is shown last is."""

    start: int
    end: int
    last_sample: int


def fragments_of(file: BinaryIO, extends: Box, moofs: Sequence[Box], track_id: int) -> Fragments | None:
    """extends: the `mvex`. None where no fragment has the track, or none says when it begins."""
    default = next((_default_of(file, box) for box in _all(file, extends, b"trex") if _id(file, box) == track_id), 0)
    first = next(_with_samples(file, moofs, track_id, default), None)
    last = next(_with_samples(file, reversed(moofs), track_id, default), None)
    if first is None or last is None:
        return None
    begin, samples = last
    decoded = latest = begin
    shown = 0
    for duration, offset in samples:
        if decoded + offset >= latest:
            latest, shown = decoded + offset, duration
        decoded += duration
    return Fragments(first[0], decoded, shown)


def _with_samples(
    file: BinaryIO, moofs: Iterable[Box], track_id: int, default: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Of each fragment that has some: when its first is decoded, and the duration and the offset of each."""
    for moof in moofs:
        for traf in _all(file, moof, b"traf"):
            parts: dict[bytes, list[Box]] = {}
            for box in boxes(file, traf.start, traf.end):
                parts.setdefault(box.kind, []).append(box)
            if b"tfdt" not in parts or not any(_id(file, box) == track_id for box in parts.get(b"tfhd", ())):
                continue
            usual = _duration_of_fragment(file, parts[b"tfhd"][0], default)
            samples = [each for box in parts.get(b"trun", ()) for each in _samples(file, box, usual)]
            if samples:
                yield _time(file, parts[b"tfdt"][0]), samples


def _samples(file: BinaryIO, trun: Box, usual: int) -> Iterator[tuple[int, int]]:
    flags, count = struct.unpack(">II", read(file, trun.start, 8))
    fields = [bit for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit]
    at = trun.start + 8 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x4)
    count = min(count, _MOST_SAMPLES)
    if not fields:
        yield from [(usual, 0)] * count
        return
    table = read(file, at, count * 4 * len(fields))
    for row in struct.iter_unpack(f">{len(fields)}i", table[: len(table) // (4 * len(fields)) * 4 * len(fields)]):
        said = dict(zip(fields, row, strict=True))
        yield said.get(0x100, usual), said.get(0x800, 0)


def _duration_of_fragment(file: BinaryIO, tfhd: Box, default: int) -> int:
    data = read(file, tfhd.start, 24).ljust(24, b"\0")
    flags = int.from_bytes(data[1:4], "big")
    at = 8 + 8 * bool(flags & 0x1) + 4 * bool(flags & 0x2)
    return int.from_bytes(data[at : at + 4], "big") if flags & 0x8 else default


def _time(file: BinaryIO, tfdt: Box) -> int:
    data = read(file, tfdt.start, 12)
    return int.from_bytes(data[4:12] if data[0] == 1 else data[4:8], "big")


def _default_of(file: BinaryIO, trex: Box) -> int:
    return int.from_bytes(read(file, trex.start + 12, 4), "big")


def _id(file: BinaryIO, box: Box) -> int:
    return int.from_bytes(read(file, box.start + 4, 4), "big")


def _all(file: BinaryIO, inside: Box, kind: bytes) -> Iterator[Box]:
    return (box for box in boxes(file, inside.start, inside.end) if box.kind == kind)
