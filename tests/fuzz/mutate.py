"""Mutations of a clip's bytes, pure and seeded: the same seed, number and sources give the same mutant.

>>> mutant(1, 0, sources()).data == mutant(1, 0, sources()).data
True
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.fuzz.sources import Source

# Changes the bytes in place and says how.
Mutation = Callable[[random.Random, bytearray], str]
# Where headers are, unless the index lies at the end.
HEADER_BYTES = 4096
_MOST_FLIPS = 2000
_MOST_MUTATIONS = 3
# What a mutant may be longer than its source.
_GROWTH_BYTES = 256 * 1024
# Blocks to swap: a packet of MPEG-TS, a sector of MPEG-PS, a page, any.
_BLOCKS = (188, 2048, 4096, 37)
# Names that a size comes before (MP4) or after (AVI, and the tables of MP4), with numbers behind it.
_BIG_ENDIAN = (
    b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl", b"stsd",
    b"avc1", b"avcC", b"hev1", b"hvcC", b"vp09", b"vpcC", b"av1C", b"mp4v", b"esds", b"colr", b"pasp", b"stts", b"stss",
    b"stsc", b"stsz", b"stco", b"co64", b"ctts", b"moof", b"mfhd", b"traf", b"tfhd", b"tfdt", b"trun", b"mdat", b"IHDR",
)  # fmt: skip
_LITTLE_ENDIAN = (b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"movi", b"idx1", b"indx", b"00dc", b"00db")
_NAMES = re.compile(b"|".join(map(re.escape, _BIG_ENDIAN + _LITTLE_ENDIAN)))
# EBML elements: Segment, SeekHead, Info, Tracks, TrackEntry, Video, Cues, Cluster, CodecPrivate, SimpleBlock.
_EBML = re.compile(
    rb"\x18\x53\x80\x67|\x11\x4d\x9b\x74|\x15\x49\xa9\x66|\x16\x54\xae\x6b|\xae|\xe0|\x1c\x53\xbb\x6b|\x1f\x43\xb6\x75"
    rb"|\x63\xa2|\xa3"
)
_LIES = (0, 1, 2, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True)
class Mutant:
    """A broken file; about: its source and what was done to it, in one line."""

    number: int
    data: bytes
    about: str


def mutant(seed: int, number: int, corpus: Sequence[Source]) -> Mutant:
    """The mutant of this number: one source, and one to three mutations that leave it different."""
    rng = random.Random(f"{seed}/{number}")
    source = rng.choice(corpus)
    data = bytearray(source.data)
    done: list[str] = []
    wanted = rng.randint(1, _MOST_MUTATIONS)
    while len(done) < wanted or data == source.data:
        choices: list[Mutation] = [*MUTATIONS, partial(splice, other=rng.choice(corpus))]
        done.append(rng.choice(choices)(rng, data))
        if not data:  # all was cut away: an empty file has tests of its own
            data[:] = rng.randbytes(1)
    return Mutant(number, bytes(data), f"{source.name}: {', '.join(done)}")


def flip_anywhere(rng: random.Random, data: bytearray) -> str:
    return _flip(rng, data, 0, len(data))


def flip_in_header(rng: random.Random, data: bytearray) -> str:
    return _flip(rng, data, 0, min(len(data), HEADER_BYTES))


def flip_in_payload(rng: random.Random, data: bytearray) -> str:
    return _flip(rng, data, min(HEADER_BYTES, len(data) // 2), len(data))


def cut_head(rng: random.Random, data: bytearray) -> str:
    count = rng.randint(1, max(1, len(data) // rng.choice((2, 20, 200))))
    del data[:count]
    return f"head of {count} cut"


def cut_tail(rng: random.Random, data: bytearray) -> str:
    kept = rng.randrange(len(data))
    del data[kept:]
    return f"cut at {kept}"


def cut_middle(rng: random.Random, data: bytearray) -> str:
    start, end = _slice(rng, data)
    del data[start:end]
    return f"cut {start}-{end}"


def repeat(rng: random.Random, data: bytearray) -> str:
    start, end = _slice(rng, data)
    times = min(rng.choice((1, 2, 10, 1000)), max(1, _GROWTH_BYTES // (end - start)))
    data[end:end] = data[start:end] * times
    return f"{start}-{end} repeated {times} times"


def splice(rng: random.Random, data: bytearray, *, other: Source) -> str:
    start, end = _slice(rng, other.data)
    end = min(end, start + _GROWTH_BYTES)
    at = rng.randrange(len(data) + 1)
    until = rng.choice((at, min(len(data), at + end - start)))
    data[at:until] = other.data[start:end]
    return f"{start}-{end} of {other.name} {'over' if until > at else 'into'} {at}"


def overwrite(rng: random.Random, data: bytearray) -> str:
    start, end = _slice(rng, data)
    name = rng.choice(("zeros", "ones", "noise"))
    fill = {"zeros": bytes(end - start), "ones": b"\xff" * (end - start), "noise": rng.randbytes(end - start)}
    data[start:end] = fill[name]
    return f"{name} over {start}-{end}"


def swap_blocks(rng: random.Random, data: bytearray) -> str:
    size = rng.choice(_BLOCKS)
    blocks = max(1, len(data) // size)
    one, two = (rng.randrange(blocks) * size for _ in range(2))
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
    return f"{size} bytes at {one} and {two} swapped"


def lie_in_box(rng: random.Random, data: bytearray) -> str:
    """A size, a count or an entry of an MP4 box or an AVI chunk."""
    found = [match.start() for match in _NAMES.finditer(data)]
    if not found:
        return lie_anywhere(rng, data)
    at = rng.choice(found)
    name = bytes(data[at : at + 4])
    is_little = name in _LITTLE_ENDIAN
    offset = at + (4 if is_little else -4) + (0 if rng.random() < 0.4 else 4 * rng.randint(1, 24))
    return f"{name.decode()} {_lie(rng, data, offset, 'little' if is_little else 'big')}"


def lie_in_ebml(rng: random.Random, data: bytearray) -> str:
    """The size of a Matroska element; its length in bytes stays, as the first byte says it."""
    found = list(_EBML.finditer(data, 0, HEADER_BYTES if rng.random() < 0.5 else len(data)))
    if not found or not (b"matroska" in data[:64] or b"webm" in data[:64]):
        return lie_anywhere(rng, data)
    at = rng.choice(found).end()
    if at >= len(data):
        return lie_anywhere(rng, data)
    length = max(1, 9 - data[at].bit_length())
    marker = 1 << (7 * length)
    size = rng.choice((0, 1, marker - 1, marker - 2, rng.randrange(marker)))
    data[at : at + length] = (marker | size).to_bytes(length, "big")
    return f"element size {size:#x} at {at}"


def lie_anywhere(rng: random.Random, data: bytearray) -> str:
    """Any four bytes of the header, in either order."""
    return _lie(rng, data, rng.randrange(min(len(data), HEADER_BYTES)), rng.choice(("big", "little")))


# Apart from `splice`, which needs another file.
MUTATIONS: tuple[Mutation, ...] = (
    flip_anywhere, flip_in_header, flip_in_payload, cut_head, cut_tail, cut_middle, repeat, overwrite,
    swap_blocks, lie_in_box, lie_in_box, lie_in_ebml, lie_anywhere,
)  # fmt: skip


def _flip(rng: random.Random, data: bytearray, start: int, end: int) -> str:
    most = min(_MOST_FLIPS, max(1, end - start))
    count = rng.choice((1, rng.randint(1, 8), rng.randint(1, most)))
    for _ in range(count):
        data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped in {start}-{end}"


def _slice(rng: random.Random, data: bytes | bytearray) -> tuple[int, int]:
    """At least one byte; short ones as often as long ones."""
    start = rng.randrange(len(data))
    longest = len(data) - start
    return start, start + rng.randint(1, rng.choice((min(longest, 64), min(longest, HEADER_BYTES), longest)))


def _lie(rng: random.Random, data: bytearray, offset: int, order: str) -> str:
    offset = min(max(0, offset), max(0, len(data) - 4))
    field = slice(offset, min(len(data), offset + 4))
    truth = int.from_bytes(data[field], order)  # type: ignore[arg-type]
    value = rng.choice((*_LIES, truth + 1, truth - 1, truth * 2, truth // 2, rng.getrandbits(32))) % (1 << 32)
    size = field.stop - offset
    data[field] = (value % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    return f"{value:#x} ({order}-endian) at {offset}"
