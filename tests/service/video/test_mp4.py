"""What MP4 boxes say of their tracks: of files built box by box after the standard, drawn, and broken ones."""

from __future__ import annotations

import io
import random
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.video.boxes import boxes
from service.video.mp4 import Mp4Track, video_tracks
from service.video.orientation import UPRIGHT, Orientation
from tests.drawn import draw
from tests.timing_cases import add_sound

FILM, MEDIA = 1000, 12_800  # ticks a second
UPRIGHT_MATRIX, MIRROR = (1, 0, 0, 1), (-1, 0, 0, 1)
EMPTY = -1


def box(kind: bytes, *parts: bytes, wide: bool = False) -> bytes:
    payload = b"".join(parts)
    if wide:
        return struct.pack(">I4sQ", 1, kind, 16 + len(payload)) + payload
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def full(kind: bytes, version: int, *parts: bytes, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def times(version: int, scale: int, duration: int) -> bytes:
    """Creation, modification, ticks a second, duration: of `mvhd` and `mdhd`."""
    return struct.pack(">QQIQ" if version else ">IIII", 0, 0, scale, duration)


def table(entries: Sequence[tuple[int, int]], entry: str = ">II") -> bytes:
    return struct.pack(">I", len(entries)) + b"".join(struct.pack(entry, *each) for each in entries)


def track(
    *,
    version: int = 0,
    handler: bytes = b"vide",
    matrix: tuple[int, int, int, int] = UPRIGHT_MATRIX,
    duration: int = 2 * MEDIA,
    edits: Sequence[tuple[int, int]] = (),
    durations: Sequence[tuple[int, int]] = ((50, 512),),
    offsets: Sequence[tuple[int, int]] = (),
    flags: int = 3,
) -> bytes:
    """edits: duration in ticks of the film, first tick of the media."""
    a, b, c, d = (part << 16 for part in matrix)
    header = struct.pack(">QQIIQ" if version else ">IIIII", 0, 0, 1, 0, 0)
    rest = struct.pack(">8x4H9i2I", 0, 0, 0, 0, a, b, 0, c, d, 0, 0, 0, 1 << 30, 320 << 16, 240 << 16)
    edit = ">QqI" if version else ">IiI"
    edited = b"".join(struct.pack(edit, length, first, 1 << 16) for length, first in edits)
    tables = [full(b"stts", 0, table(durations))]
    if offsets:
        tables.append(full(b"ctts", 1, table(offsets, ">Ii")))
    return box(
        b"trak",
        full(b"tkhd", version, header, rest, flags=flags),
        box(b"edts", full(b"elst", version, struct.pack(">I", len(edits)), edited)) if edits else b"",
        box(
            b"mdia",
            full(b"mdhd", version, times(version, MEDIA, duration), bytes(4)),
            full(b"hdlr", 0, bytes(4), handler, bytes(12), b"name\0"),
            box(b"minf", box(b"stbl", *tables)),
        ),
    )


FRONT = box(b"ftyp", b"isom", bytes(4), b"isom") + box(b"mdat", bytes(100))


def film(*tracks: bytes, version: int = 0, fragmented: bool = False, wide: bool = False, front: bytes = FRONT) -> bytes:
    extends = box(b"mvex", bytes(8)) if fragmented else b""
    head = full(b"mvhd", version, times(version, FILM, 0), bytes(80))
    return front + box(b"moov", head, *tracks, extends, wide=wide)


SOUND = track(handler=b"soun")


def read(data: bytes) -> list[Mp4Track]:
    return video_tracks(io.BytesIO(data))


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [False, True])
def test_both_versions_of_every_box(version: int, wide: bool) -> None:
    made = track(version=version, edits=[(500, EMPTY), (2000, 1024)], matrix=MIRROR)
    [found] = read(film(made, SOUND, version=version, wide=wide))
    assert found == Mp4Track(
        enabled=True,
        orientation=Orientation(0, mirrored=True),
        start_seconds=0.5,
        duration_seconds=2.0,
        last_sample_seconds=0.04,
    )


@pytest.mark.parametrize(
    ("edits", "start", "duration"),
    [
        ([], 0.0, 2.0),  # of the media
        ([(2000, 0)], 0.0, 2.0),
        ([(1500, 3200)], 0.0, 1.5),  # what is cut off in front is no start
        ([(1000, 0), (3000, 12_800)], 0.0, 4.0),
        ([(3000, EMPTY), (2000, 0)], 3.0, 2.0),
        ([(1000, EMPTY), (500, EMPTY), (2000, 0)], 1.5, 2.0),
        ([(2000, 0), (700, EMPTY)], 0.0, 2.0),
        ([(0, 1024)], 0.0, 2.0),  # 0: to the end
        ([(3000, EMPTY), (0, 0)], 3.0, 2.0),
    ],
)
def test_edits(edits: list[tuple[int, int]], start: float, duration: float) -> None:
    [found] = read(film(track(edits=edits), SOUND))
    assert (found.start_seconds, found.duration_seconds) == (start, duration)


@pytest.mark.parametrize(
    ("durations", "offsets", "seconds"),
    [
        ([(50, 512)], [], 0.04),
        ([(49, 512), (1, 384_000)], [], 30.0),
        ([(1, 384_000), (49, 512)], [], 0.04),
        # Decoded at 0, 1, 2, 3, shown at 0, 3, 1, 2: the second sample is shown last.
        ([(1, 512), (1, 12_800), (2, 512)], [(1, 0), (1, 40_000), (2, 0)], 1.0),
        # Offsets below zero: decoded at 0, 1, 2, shown at 0, 1, 0.5.
        ([(2, 512), (1, 25_600)], [(2, 0), (1, -800)], 0.04),
        # Of long tables the last samples are read.
        ([(10_000, 512), (40, 256)], [(10_040, 0)], 0.02),
        ([], [], None),
    ],
)
def test_the_sample_that_is_shown_last(
    durations: list[tuple[int, int]], offsets: list[tuple[int, int]], seconds: float | None
) -> None:
    [found] = read(film(track(durations=durations, offsets=offsets)))
    assert found.last_sample_seconds == seconds


def test_a_start_counts_from_the_earliest_track() -> None:
    late = track(edits=[(3000, EMPTY), (2000, 0)])
    assert read(film(late))[0].start_seconds == 0.0
    [found] = read(film(late, track(edits=[(1900, EMPTY), (2000, 0)], handler=b"soun")))
    assert found.start_seconds == pytest.approx(1.1)


def test_a_fragmented_film_has_its_samples_elsewhere() -> None:
    [found] = read(film(track(durations=[]), fragmented=True))
    assert (found.duration_seconds, found.last_sample_seconds) == (None, None)


def test_tracks_of_video_alone_and_in_their_order() -> None:
    found = read(film(track(handler=b"soun"), track(flags=2), track(handler=b"tmcd"), track(matrix=MIRROR)))
    assert [(each.enabled, each.orientation.mirrored) for each in found] == [(False, False), (True, True)]


def test_no_matrix_at_all_is_upright() -> None:
    assert read(film(track(matrix=(0, 0, 0, 0))))[0].orientation == UPRIGHT


@pytest.mark.parametrize("first", [b"", *(box(kind, bytes(8)) for kind in (b"wide", b"free", b"skip", b"mdat"))])
def test_quicktime_need_not_begin_with_a_brand(first: bytes) -> None:
    assert len(read(film(track(), front=first))) == 1


@pytest.mark.parametrize("data", [b"", b"\0", b"ftyp", b"RIFF\0\0\0\0AVI ", film()[:60], box(b"ftyp", bytes(8))])
def test_no_film_no_tracks(data: bytes) -> None:
    assert read(data) == []


WHOLE = film(track(edits=[(500, EMPTY), (2000, 0)], offsets=[(50, 512)]), track(version=1))


@pytest.mark.parametrize("kept", range(0, len(WHOLE), 7))
def test_a_cut_film_raises_nothing(kept: int) -> None:
    assert len(read(WHOLE[:kept])) <= 2


@given(st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), min_size=1, max_size=12))
def test_a_broken_film_raises_nothing_and_ends(changes: dict[int, int]) -> None:
    broken = bytearray(WHOLE)
    for at, value in changes.items():
        broken[at] = value
    for found in read(bytes(broken)):
        assert found.duration_seconds is None or found.duration_seconds > 0


def test_boxes_that_are_broken_end_the_list() -> None:
    def kinds(data: bytes) -> list[bytes]:
        return [each.kind for each in boxes(io.BytesIO(data), 0, len(data))]

    good = box(b"free", bytes(4))
    assert kinds(good + good + b"\0\0") == [b"free", b"free"]
    assert kinds(good + struct.pack(">I4s", 7, b"none") + good) == [b"free"]
    assert kinds(good + struct.pack(">I4s", 0, b"last") + good) == [b"free", b"last"], "0: to the end"
    assert kinds(good + struct.pack(">I4s", 1 << 30, b"long")) == [b"free", b"long"]
    assert len(kinds(box(b"free") * 70_000)) == 1 << 16


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_drawn(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = draw(tmp_path / f"clip.{suffix}", b_frames=b_frames, rotation_degrees=270).path
    with path.open("rb") as file:
        [found] = video_tracks(file)
    assert found == Mp4Track(
        enabled=True,
        orientation=Orientation(270),
        start_seconds=0.0,
        duration_seconds=2.0,
        last_sample_seconds=0.04,
    )


def test_drawn_late(tmp_path: Path) -> None:
    path = draw(tmp_path / "clip.mp4", 26, timestamps=[3.0 + i / 25 for i in range(26)], b_frames=2).path
    add_sound(path, 5.0)
    with path.open("rb") as file:
        [found] = video_tracks(file)
    assert found.start_seconds == pytest.approx(3.0, abs=2e-3)
    assert found.duration_seconds == pytest.approx(1.04, abs=2e-3)


FRAGMENTS = ("frag_keyframe+empty_moov", "frag_every_frame+empty_moov+default_base_moof", "frag_keyframe", "dash")


@pytest.mark.parametrize("flags", FRAGMENTS)
@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("sound_seconds", [0.0, 9.0])
def test_drawn_in_fragments(tmp_path: Path, flags: str, b_frames: int, sound_seconds: float) -> None:
    """The last picture is held for 5 s."""
    times = [index / 25 for index in range(50)]
    options = {"movflags": flags}
    path = draw(
        tmp_path / "clip.mp4", timestamps=times, last_seconds=5.0, b_frames=b_frames, options={"g": "10"},
        muxer_options=options,
    ).path  # fmt: skip
    if sound_seconds:
        add_sound(path, sound_seconds, options)
    with av.open(path) as container:
        stream = container.streams.video[0]
        base, length = stream.time_base or Fraction(0), stream.duration or 0
        last = max((packet for packet in container.demux(stream) if packet.size), key=lambda packet: packet.pts or 0)
    with path.open("rb") as file:
        [found] = video_tracks(file)
    assert found.last_sample_seconds == pytest.approx(float((last.duration or 0) * base))
    assert found.duration_seconds == pytest.approx(float(length * base), abs=0.13)  # or with the reordering of B-frames


@given(st.integers(0, 2**32))
def test_a_broken_fragmented_film_raises_nothing(seed: int) -> None:
    broken, rng = bytearray(fragmented()), random.Random(seed)
    for _ in range(rng.randrange(1, 12)):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    for found in read(bytes(broken[: rng.randrange(len(broken))] if seed % 2 else broken)):
        assert found.duration_seconds is None or found.duration_seconds > 0


@cache
def fragmented() -> bytes:
    """Its moov and its fragments, without what they hold."""
    with tempfile.TemporaryDirectory() as folder:
        film = draw(Path(folder) / "clip.mp4", 12, options={"g": "4"}, muxer_options={"movflags": FRAGMENTS[0]}).path
        data = film.read_bytes()
    found = boxes(io.BytesIO(data), 0, len(data))
    return b"".join(data[each.start - 8 : each.end] for each in found if each.kind in (b"ftyp", b"moov", b"moof"))


@pytest.mark.parametrize("kept", range(8, 1800, 13))
def test_a_cut_fragmented_film_raises_nothing(kept: int) -> None:
    assert len(read(fragmented()[:kept])) <= 1
