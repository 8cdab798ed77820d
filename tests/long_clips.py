"""Clips of any length: a short one with real content, and its packets copied over and over.

>>> source = moving(folder / "source.mp4", 320, 240, crf=32)        # doctest: +SKIP
>>> loop(source, folder / "long.mp4", seconds=7200)                  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path

import av
from av.video.reformatter import Interpolation

from tests.real_clips import real_clip

LONGEST_GOP = 250  # x264's own default: a key frame every ten seconds, unless the scene changes
# x264's AVX-512 code for its macroblock tree reads memory that it never wrote: the same call gives other bytes after
# other work in the process (or with MALLOC_PERTURB_=1). Its code for SSE4 and for AVX2 does not.
_X264_PARAMS = "asm=sse4"


@dataclass(frozen=True)
class _Timed:
    """A packet and its times, which muxing overwrites; in ticks of the source."""

    packet: av.Packet[av.VideoStream]
    pts: int
    dts: int
    duration: int

    @classmethod
    def of(cls, packet: av.Packet[av.VideoStream]) -> _Timed:
        """ValueError for a packet that lacks a time, as in a raw stream."""
        if packet.pts is None or packet.dts is None or not packet.duration:
            raise ValueError(f"{packet} lacks a time; loop an MP4")
        return cls(packet, packet.pts, packet.dts, packet.duration)


def moving(
    path: Path,
    width: int,
    height: int,
    num_frames: int = 250,
    fps: int = 25,
    *,
    content: str = "bigbuckbunny.mp4",
    crf: int = 23,
    preset: str = "veryfast",
    b_frames: int = 3,
) -> Path:
    """Write a real clip (see `tests.real_clips`) scaled to width x height as H.264, without sound.

    The content is stretched to the size, starts anew when it is over, and gets one frame every 1 / fps
    seconds whatever its own rate. Same arguments and same libx264, same bytes.
    """
    options = {"preset": preset, "crf": str(crf), "g": str(LONGEST_GOP), "x264-params": _X264_PARAMS}
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.thread_count = 1
        stream.codec_context.max_b_frames = b_frames
        pictures = chain.from_iterable(map(_pictures, repeat(real_clip(content))))
        for index, picture in enumerate(islice(pictures, num_frames)):
            frame = picture.reformat(width, height, "yuv420p", interpolation=Interpolation.BICUBIC, threads=1)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            frame.pict_type = av.video.frame.PictureType.NONE  # the encoder's choice, not the source's
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def loop(source: Path, path: Path, seconds: float) -> Path:
    """Copy the packets of the source's video into `path` over and over until it lasts `seconds`; no sound.

    Nothing is re-encoded: each pass has its timestamps shifted by the source's duration. The last pass ends at
    the first place from `seconds` on where no frame before the cut is missing, so with B-frames the clip may
    last a few frames longer. The container follows from the path's suffix.
    """
    with av.open(source) as reader, av.open(path, "w") as writer:
        stream = reader.streams.video[0]
        tick = stream.time_base
        assert tick is not None
        packets = [_Timed.of(packet) for packet in reader.demux(stream) if packet.size]
        first = min(timed.pts for timed in packets)
        span = max(timed.pts + timed.duration for timed in packets) - first
        wanted = max(1, round(seconds / tick))
        # A decoder's name is no encoder's: of AV1 only the stream's parameters are taken.
        copy = writer.add_stream_from_template(stream, opaque=stream.codec_context.name == "libdav1d")
        # The muxer's time base may differ: it rewrites a packet's times in place, hence all four anew each time.
        for shift in range(0, wanted, span):
            last_pass = wanted - shift <= span
            for timed in packets[: _closed(packets, first + wanted - shift)] if last_pass else packets:
                packet = timed.packet
                packet.stream, packet.time_base = copy, tick
                packet.pts, packet.dts = timed.pts + shift, timed.dts + shift
                packet.duration = timed.duration
                writer.mux_one(packet)
    return path


def _closed(packets: list[_Timed], end: int) -> int:
    """How many packets, in decoding order, to keep so that the clip lasts to `end` and lacks no frame before it.

    A frame never refers to one that is decoded later, so any cut leaves what can be decoded; only where the
    packets so far are also the first ones to be shown is no hole left.
    """
    latest = packets[0]
    for count, (timed, shown) in enumerate(zip(packets, sorted(timed.pts for timed in packets), strict=True), start=1):
        latest = max(latest, timed, key=lambda one: one.pts)
        if latest.pts == shown and latest.pts + latest.duration >= end:
            return count
    return len(packets)


def _pictures(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        yield from container.decode(video=0)
