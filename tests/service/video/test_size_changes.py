"""A picture whose size changes in mid-stream is followed: every frame is right, scaled to what the header says."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from service.video.decode import ClipReader
from service.video.pool import DecodePool
from service.video.spec import ClipSpec
from tests.drawn import Encoder, Image, draw, paint, read_index

SPEC = ClipSpec(sample_fps=25, frame_height=64, frame_width=64)
RATE = Fraction(25)
FRAMES = 10  # of each part
LARGE, SMALL = (320, 240), (160, 120)
CASES: dict[str, tuple[str, Encoder, int]] = {
    "vp8-webm": ("webm", "libvpx", 0),
    "vp9-webm": ("webm", "libvpx-vp9", 0),
    "vp9-mp4": ("mp4", "libvpx-vp9", 0),
    "av1-mp4": ("mp4", "libsvtav1", 0),
    "av1-webm": ("webm", "libsvtav1", 0),
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
    with DecodePool(num_credits=1) as opened:
        yield opened


def second(index: int, width: int, height: int) -> Image:
    return paint(FRAMES + index, width, height)


def join(path: Path, encoder: Encoder, b_frames: int, sizes: tuple[Size, Size]) -> Path:
    """Two clips of one codec as one stream, without a gap, under the header of the first."""
    # In a transport stream each part has its parameter sets among its packets.
    suffix = ".ts" if encoder in ("libx264", "libx265", "mpeg4") else path.suffix
    parts = [
        draw(path.with_name(f"part-{i}{suffix}"), FRAMES, width=width, height=height, encoder=encoder,
             b_frames=b_frames, picture=second if i else paint).path
        for i, (width, height) in enumerate(sizes)
    ]  # fmt: skip
    with av.open(path, "w") as joined:
        stream: Any = None
        last: int | None = None
        for i, part in enumerate(parts):
            with av.open(part) as container:
                source = container.streams.video[0]
                stream = stream or joined.add_stream_from_template(source, opaque=encoder == "libsvtav1")
                packets = [packet for packet in container.demux(source) if packet.size]
                assert source.time_base is not None
                start = min(packet.pts for packet in packets if packet.pts is not None)
                shift = round(i * FRAMES / RATE / source.time_base) - start
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


@pytest.mark.parametrize("sizes", [(LARGE, SMALL), (SMALL, LARGE)], ids=["smaller", "larger"])
@pytest.mark.parametrize("name", CASES)
def test_every_frame_is_right(tmp_path: Path, pool: DecodePool, name: str, sizes: tuple[Size, Size]) -> None:
    suffix, encoder, b_frames = CASES[name]
    path = join(tmp_path / f"joined.{suffix}", encoder, b_frames, sizes)
    with pool.open(path, SPEC) as video:
        apart = list[int]()
        for chunk in video.chunks():
            apart += [read_index(frame) for frame in chunk.frames]
            chunk.release()
    with ClipReader(path, SPEC) as reader:
        here = [read_index(frame) for chunk in reader.chunks(16) for frame in chunk.frames]
    assert here == apart
    # The decoder of MPEG-2 loses the last frame before the change.
    assert here == [index for index in range(2 * FRAMES) if encoder != "mpeg2video" or index != FRAMES - 1]
