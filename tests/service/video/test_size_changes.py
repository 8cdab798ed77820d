"""A picture whose size changes in mid-stream is refused at the frame where it does, and not before."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from service.video.capture import Capture
from service.video.coded_size import READERS
from service.video.confine import FfmpegLog
from service.video.decode import ClipReader, DecodeReport
from service.video.errors import SizeChanged
from service.video.findings import find
from service.video.limits import DecodeLimits
from service.video.mending import mend
from service.video.pool import DecodePool
from service.video.size_watch import PacketSizes, SizeWatch, size_changed
from service.video.spec import ClipSpec
from service.video.vpx import Vp9Sizes, vp8_size
from tests.drawn import Encoder, Image, draw, paint, read_index
from tests.drawn_cases import CODECS, FORMATS, SIZES

SPEC = ClipSpec(sample_fps=8, frame_height=64, frame_width=64)
RATE = Fraction(25)
FRAMES = 20  # of each part
LARGE, SMALL = (320, 240), (160, 120)
CASES: dict[str, tuple[str, Encoder, int]] = {
    "vp8-webm": ("webm", "libvpx", 0),
    "vp9-webm": ("webm", "libvpx-vp9", 0),
    "vp9-mp4": ("mp4", "libvpx-vp9", 0),
    "h264-ts": ("ts", "libx264", 0),
    "h264-b-ts": ("ts", "libx264", 2),
    "h264-b-mkv": ("mkv", "libx264", 2),
    "h264-b-mp4": ("mp4", "libx264", 2),
    "h264-b-flv": ("flv", "libx264", 2),
    "hevc-b-ts": ("ts", "libx265", 2),
    "hevc-b-mkv": ("mkv", "libx265", 2),
    "hevc-b-mp4": ("mp4", "libx265", 2),
    "mjpeg-avi": ("avi", "mjpeg", 0),
    "mpeg4-avi": ("avi", "mpeg4", 0),
    "mpeg4-mp4": ("mp4", "mpeg4", 0),
    "mpeg2-mkv": ("mkv", "mpeg2video", 0),
    "png-mov": ("mov", "png", 0),
    "prores-mov": ("mov", "prores_ks", 0),
    "flv1": ("flv", "flv", 0),
}
Size = tuple[int, int]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(num_credits=2) as opened:
        yield opened


def join(path: Path, encoder: Encoder, b_frames: int, sizes: tuple[Size, Size], num_frames: int = FRAMES) -> Path:
    """Two clips of one codec as one stream, without a gap, under the header of the first."""

    def second(index: int, width: int, height: int) -> Image:
        return paint(num_frames + index, width, height)

    # In a transport stream each part has its parameter sets among its packets.
    suffix = ".ts" if encoder in ("libx264", "libx265", "mpeg4") else path.suffix
    parts = [
        draw(path.with_name(f"part-{i}{suffix}"), num_frames, width=width, height=height, encoder=encoder,
             b_frames=b_frames, picture=second if i else paint).path
        for i, (width, height) in enumerate(sizes)
    ]  # fmt: skip
    with av.open(path, "w") as joined:
        stream: Any = None
        last: int | None = None
        for i, part in enumerate(parts):
            with av.open(part) as container:
                source = container.streams.video[0]
                stream = stream or joined.add_stream_from_template(source)
                packets = [packet for packet in container.demux(source) if packet.size]
                assert source.time_base is not None
                start = min(packet.pts for packet in packets if packet.pts is not None)
                shift = round(i * num_frames / RATE / source.time_base) - start
                for packet in packets:
                    assert packet.pts is not None
                    packet.pts += shift
                    packet.dts = None if packet.dts is None else packet.dts + shift
                    if last is not None:
                        # Of a few frames FFmpeg may guess it wrong: that depends on how far its threads have come.
                        packet.dts = min(max(last + 1 if packet.dts is None else packet.dts, last + 1), packet.pts)
                    last = packet.dts
                    packet.stream = stream
                    joined.mux(packet)
    return path


def walk(pool: DecodePool, path: Path) -> DecodeReport:
    with pool.open(path, SPEC) as video:
        for chunk in video.chunks():
            chunk.release()
    return video.report()


@pytest.mark.parametrize("sizes", [(LARGE, SMALL), (SMALL, LARGE)], ids=["smaller", "larger"])
@pytest.mark.parametrize("name", CASES)
def test_a_change_is_refused_where_it_is(tmp_path: Path, pool: DecodePool, name: str, sizes: tuple[Size, Size]) -> None:
    suffix, encoder, b_frames = CASES[name]
    path = join(tmp_path / f"joined.{suffix}", encoder, b_frames, sizes)
    first, second = (f"{width} x {height}" for width, height in sizes)
    with pytest.raises(SizeChanged) as here, ClipReader(path, SPEC) as reader:
        list(reader.chunks(16))
    with pytest.raises(SizeChanged) as there:
        walk(pool, path)
    assert (here.value.value, here.value.limit) == (second, first)
    # The log has the coded size.
    assert there.value.value in {second, second.replace("120", "128") if encoder == "libx264" else second}
    assert there.value.limit == first
    assert here.value.detail.count(" at 0.800 s") == there.value.detail.count(" at 0.800 s") == 1
    with pool.open(path, SPEC, end_seconds=0.8) as video:
        indices = [read_index(frame) for chunk in video.chunks() for frame in chunk.frames]
    assert indices[0] == 0
    assert indices == sorted(set(indices))
    assert 16 <= indices[-1] < FRAMES  # the decoder of MPEG-2 loses the last one


@pytest.mark.parametrize("encoder", ["libx264", "libvpx", "libx265", "mjpeg"])
@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_change_among_the_first_frames(tmp_path: Path, pool: DecodePool, encoder: Encoder, num_frames: int) -> None:
    """FFmpeg decodes the first frames to learn the header, and holds frames back."""
    b_frames = 2 if encoder in ("libx264", "libx265") else 0
    path = join(tmp_path / "joined.mkv", encoder, b_frames, (SMALL, LARGE), num_frames)
    with pytest.raises(SizeChanged):
        walk(pool, path)
    with pytest.raises(SizeChanged), ClipReader(path, SPEC) as reader:
        list(reader.chunks(16))


@pytest.mark.parametrize("name", ["vp8-webm", "vp9-webm", "h264-b-mp4", "hevc-b-mkv", "mjpeg-avi", "mpeg4-mp4"])
def test_parts_of_one_size_are_one_clip(tmp_path: Path, pool: DecodePool, name: str) -> None:
    suffix, encoder, b_frames = CASES[name]
    path = join(tmp_path / f"joined.{suffix}", encoder, b_frames, (SMALL, SMALL))
    assert walk(pool, path).warnings == ()


def test_two_streams_end_to_end_where_times_start_over(tmp_path: Path, pool: DecodePool) -> None:
    """What the first reading has as 1 s is 0 s in the packets of the second part."""
    joined = tmp_path / "joined.ts"
    parts = [draw(tmp_path / f"{w}.ts", 25, width=w, height=h, encoder="mpeg2video") for w, h in (LARGE, SMALL)]
    joined.write_bytes(b"".join(part.path.read_bytes() for part in parts))
    with pytest.raises(SizeChanged, match=r"to 160 x 120 at (0\.9|1\.0)"):
        walk(pool, joined)


@pytest.mark.parametrize("full", [False, True])
def test_a_probe_finds_it_when_it_gets_there(tmp_path: Path, pool: DecodePool, *, full: bool) -> None:
    path = join(tmp_path / "joined.webm", "libvpx", 0, (LARGE, SMALL), 50)
    facts = pool.probe(path, full=full)
    findings = find(facts, DecodeLimits())
    assert [finding.code for finding in findings if finding.severity == "error"] == (["size_changed"] if full else [])
    if full:
        assert mend(findings, facts, DecodeLimits()) == (
            "ffmpeg -i INPUT -vf scale=320:240 -c:v libx264 -pix_fmt yuv420p -movflags +faststart OUTPUT.mp4"
        )


def test_the_words() -> None:
    error = size_changed((319, 240), "160 x 120", 1.24, rotation_degrees=90)
    assert error.detail == (
        "the picture changes from 319 x 240 to 160 x 120 at 1.240 s; OpenCV can't follow it: give it one size, for "
        "example: ffmpeg -i INPUT -vf scale=240:318 -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4"
    )
    assert (error.status, error.code, error.value, error.limit) == (422, "size_changed", "160 x 120", "319 x 240")


class FakeLog:
    """Lines for each call; nothing is muted."""

    def __init__(self, *calls: list[str]) -> None:
        self.calls = list(calls)

    def take_sizes(self) -> list[str]:
        return self.calls.pop(0) if self.calls else []

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        yield


def reinit(size: str, pixel_format: str = "yuv420p") -> str:
    return f"[OPENCV:FFMPEG:40] Reinit context to {size}, pix_fmt: {pixel_format}"


def follow(log: FakeLog, intra: list[bool]) -> list[str | None]:
    """The new size after each frame."""
    watch = SizeWatch(Path("unread"), "h264", LARGE, log)
    found = []
    for i, is_intra in enumerate(intra):
        watch.after_grab(i / 25, intra=is_intra)
        found.append(watch.new_size)
    return found


def test_a_change_in_the_log_waits_for_the_frames_held_back() -> None:
    log = FakeLog([reinit("64x64")], [reinit("320x240")], [], [reinit("160x128")])
    assert follow(log, [True, False, False, False, True, False]) == [None] * 4 + ["160 x 128"] * 2


def test_a_change_in_the_log_is_one_at_last_without_an_intra_frame() -> None:
    log = FakeLog([], [reinit("320x240")], [reinit("160x128")])
    assert follow(log, [True] + [False] * 20) == [None] * 17 + ["160 x 128"] * 4


def test_the_same_again_is_no_change_and_another_pixel_format_is() -> None:
    log = FakeLog([], [reinit("320x240")], [reinit("320x240")], [reinit("320x240", "yuv422p")])
    assert follow(log, [True] * 3) == [None, None, "320 x 240, yuv422p"]


def test_a_picture_that_swscale_refuses_is_not_believed() -> None:
    watch = SizeWatch(Path("unread"), "gif", SMALL, FakeLog([], [], ["Slice parameters 0, 240 are invalid"]))
    watch.after_grab(0.0, intra=True)
    assert not watch.after_retrieve()
    assert watch.new_size == "a height of 240"
    assert watch.after_retrieve()


def test_levels_of_the_log() -> None:
    log = FfmpegLog.__new__(FfmpegLog)  # not the streams of this process
    log._error, log._sizes = None, []
    log._keep("[OPENCV:FFMPEG:40] Statistics: 9 bytes read\nmore of it\n" + reinit("160x128"))
    assert (log._error, log._sizes) == (None, [reinit("160x128")])
    log._keep("[OPENCV:FFMPEG:24] EOI missing\n[OPENCV:FFMPEG:16] [h264 @ 0x5] bad MB\n[OPENCV:FFMPEG:16] second")
    assert log._error == "bad MB"


@pytest.mark.parametrize("name", sorted({**CODECS, **FORMATS, **SIZES}))
def test_packets_tell_the_size_that_the_header_has(tmp_path: Path, name: str) -> None:
    suffix, how = {**CODECS, **FORMATS, **SIZES}[name]
    path = draw(tmp_path / f"clip.{suffix}", num_frames=3, **how).path
    capture = Capture(path)
    codec, size = capture.header.codec, (capture.header.width, capture.header.height)
    capture.release()
    if codec not in READERS:
        pytest.skip(f"{codec} can't change its size")
    packets = PacketSizes(path, codec, size)
    assert packets.changed(0.0) is None
    assert packets._first == size


def bits(*fields: tuple[int, int]) -> bytes:
    """(value, width) packed, the most significant first, and filled up with zeros."""
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big") + bytes(4)


def key_frame(width: int, height: int, *, shown: int = 1) -> bytes:
    sync, colour = (0x498342, 24), [(2, 3), (0, 1)]
    return bits((2, 2), (0, 2), (0, 1), (0, 1), (shown, 1), (0, 1), sync, *colour, (width - 1, 16), (height - 1, 16))


def inter_frame(refreshed: int, *size: tuple[int, int], shown: int = 1) -> bytes:
    """References are slots 0, 1 and 2."""
    hidden = [] if shown else [(0, 1)]
    references = [field for slot in range(3) for field in ((slot, 3), (0, 1))]
    return bits((2, 2), (0, 2), (0, 1), (1, 1), (shown, 1), (0, 1), *hidden, (0, 2), (refreshed, 8), *references, *size)


def superframe(*frames: bytes) -> bytes:
    marker = bytes([0xC0 | 1 << 3 | len(frames) - 1])
    return b"".join(frames) + marker + b"".join(len(frame).to_bytes(2, "little") for frame in frames) + marker


EXPLICIT = ((0, 1), (0, 1), (0, 1), (159, 16), (119, 16))


def test_vp9_frames_take_sizes_of_their_own_or_of_references() -> None:
    size_of = Vp9Sizes()
    assert size_of(key_frame(320, 240)) == (320, 240)
    assert size_of(inter_frame(0b10, *EXPLICIT)) == (160, 120)
    assert size_of(inter_frame(0, (1, 1))) == (320, 240)
    assert size_of(inter_frame(0, (0, 1), (1, 1))) == (160, 120)
    shown_again = bits((2, 2), (0, 2), (1, 1), (1, 3))
    assert size_of(shown_again) == (160, 120)


def test_vp9_frames_that_are_not_shown_have_no_size_for_the_viewer() -> None:
    size_of = Vp9Sizes()
    assert size_of(key_frame(320, 240)) == (320, 240)
    hidden = inter_frame(0b100, *EXPLICIT, shown=0)
    assert size_of(hidden) is None
    assert size_of(superframe(hidden, inter_frame(0, (1, 1)))) == (320, 240)
    intra_only = bits(
        (2, 2), (0, 2), (0, 1), (1, 1), (0, 1), (0, 1), (1, 1), (0, 2), (0x498342, 24), (1, 8), *EXPLICIT[3:]
    )
    assert size_of(intra_only) is None
    assert size_of(inter_frame(0, (1, 1))) == (160, 120)


def test_vp8_sizes_are_in_key_frames() -> None:
    key = bytes.fromhex("d01800 9d012a 4001 f0c0 0000")
    assert vp8_size(key) == (320, 240), "without the two bits of scaling"
    assert vp8_size(bytes.fromhex("911000 041098 0018 6f91")) is None


@pytest.mark.parametrize("codec", READERS)
def test_packets_without_sense_tell_nothing_and_end(codec: str) -> None:
    generator = random.Random(codec)
    for length in (*range(40), 3000):
        packet = generator.randbytes(length)
        for start in (b"", b"\0\0\1\x67", b"\0\0\1\x42\1", b"\0\0\1\x20", b"\xff\xd8\xff", b"\x82\x49\x83\x42"):
            with contextlib.suppress(ValueError, IndexError, KeyError):
                size = READERS[codec]()(start + packet)
                assert size is None or min(size) >= -(2**40)
