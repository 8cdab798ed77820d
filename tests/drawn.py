"""Clips drawn by PyAV whose every frame carries its own index.

A frame is orange above, blue below, and between them lie `NUM_BITS` black (0) or white (1) bands over the
full width, the most significant bit on top. No crop that keeps the middle `_CODE_HEIGHT` of the picture, no
stretch and no sane compression hides the index; the colours tell RGB from BGR, and which side is up.

>>> read_index(paint(300, width=64, height=48))
300
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Encoder = Literal[
    "libx264", "libx265", "mpeg4", "mpeg2video", "mjpeg", "libvpx", "libvpx-vp9", "libsvtav1",
    "gif", "png", "apng", "qtrle", "rawvideo", "ffv1", "prores_ks", "huffyuv", "flv", "wmv2", "msmpeg4",
]  # fmt: skip

# SVT-AV1 prints its configuration, and has no option against it.
os.environ.setdefault("SVT_LOG", "1")

NUM_BITS = 10
ORANGE, BLUE = (220, 128, 40), (40, 128, 220)  # green is 128 in both: neither black nor white
_CODE_HEIGHT = 0.625  # 10 bands of 15 rows in 240: no band is cut by a macroblock's blur
_BLACK, _WHITE = 64, 192
# Fine enough for any frame rate, and not above the 65535 that MPEG-4 part 2 can hold.
_FINE = Fraction(1, 60_000)
_OPTIONS: dict[Encoder, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "20"},
    "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1000000"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    # At presets above 10 SVT-AV1 4.1 writes streams of some frames that dav1d refuses.
    "libsvtav1": {"preset": "10", "crf": "30", "svtav1-params": "lp=1"},
}
_PIXEL_FORMATS: dict[Encoder, str] = {
    "mjpeg": "yuvj420p", "gif": "rgb8", "png": "rgb24", "apng": "rgb24", "qtrle": "rgb24", "rawvideo": "bgr24",
    "prores_ks": "yuv422p10le", "huffyuv": "yuv422p",
}  # fmt: skip
# Clockwise turns as display matrices: a, b, c, d.
_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
_NEED_BIT_RATE = ("mpeg4", "mpeg2video", "mjpeg", "flv", "wmv2", "msmpeg4")


@dataclass(frozen=True)
class Drawn:
    """A drawn clip: frame i is shown at `timestamps[i]` seconds, and `read_index` of it gives i."""

    path: Path
    timestamps: tuple[float, ...]


def draw(
    path: Path,
    num_frames: int = 50,
    fps: float = 25.0,
    width: int = 320,
    height: int = 240,
    *,
    encoder: Encoder = "libx264",
    b_frames: int = 0,
    timestamps: Sequence[float] | None = None,
    last_seconds: float | None = None,
    clock: Fraction = _FINE,
    rotation_degrees: int = 0,
    pixel_format: str | None = None,
    sample_aspect_ratio: Fraction = Fraction(1),
    options: Mapping[str, str] | None = None,
    muxer_options: Mapping[str, str] | None = None,
    picture: Callable[[int, int, int], Image] | None = None,
) -> Drawn:
    """Write a clip whose container follows from the path's suffix.

    timestamps: seconds, rising, one a frame, for a variable frame rate; without them frame i is at i / fps. clock:
    what they are rounded to. last_seconds: how long the last frame is shown; packets then say their durations.
    width, height: of the picture upright. rotation_degrees: clockwise turn that the player must apply; the
    coded picture is turned the other way and the MP4 or MOV header says so. sample_aspect_ratio: width of a
    stored pixel by its height. options, muxer_options: FFmpeg's, for the encoder and the muxer. picture: called with
    index, width and height in place of `paint`; (height, width, 3 or 4) uint8 RGB or RGBA.
    """
    rate = Fraction(fps).limit_denominator(1001)
    step = 1 / rate if timestamps is None else clock
    ticks = [i if timestamps is None else round(timestamps[i] / step) for i in range(num_frames)]
    turns = rotation_degrees // 90
    with same_scheduling(), av.open(path, "w", options=dict(muxer_options or {})) as container:
        stream = container.add_stream(encoder, rate=rate, options=_OPTIONS.get(encoder, {}) | dict(options or {}))
        stream.width, stream.height = (height, width) if turns % 2 else (width, height)
        stream.pix_fmt = pixel_format or _PIXEL_FORMATS.get(encoder, "yuv420p")
        stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        stream.codec_context.time_base = step
        stream.codec_context.thread_count = 1
        stream.codec_context.max_b_frames = b_frames
        if encoder in _NEED_BIT_RATE:
            stream.codec_context.bit_rate = 4_000_000
        packets = []
        for index, tick in enumerate(ticks):
            upright = (picture or paint)(index, width, height)
            coded = np.ascontiguousarray(np.rot90(upright, turns))
            frame = av.VideoFrame.from_ndarray(coded, format="rgb24" if coded.shape[2] == 3 else "rgba")
            frame.pts, frame.time_base = tick, step
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if last_seconds is not None:
            _say_durations(packets, last_seconds)
        container.mux(packets)
    if turns:
        write_display_matrix(path, *_MATRICES[rotation_degrees])
    return Drawn(path, tuple(float(tick * step) for tick in ticks))


def _say_durations(packets: list[av.Packet[av.VideoStream]], last_seconds: float) -> None:
    """Each lasts until the next one in the order of presentation."""
    shown = sorted((packet.pts or 0, index) for index, packet in enumerate(packets))
    for (pts, index), (after, _) in pairwise(shown):
        packets[index].duration = after - pts
    last = packets[shown[-1][1]]
    last.duration = round(last_seconds / last.time_base)


def paint(index: int, width: int, height: int) -> Image:
    """The picture of one frame: (height, width, 3) uint8 RGB."""
    if not 0 <= index < 2**NUM_BITS:
        raise ValueError(f"index is {index}; {NUM_BITS} bits hold 0 to {2**NUM_BITS - 1}")
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2], picture[height // 2 :] = ORANGE, BLUE
    edges = np.linspace((1 - _CODE_HEIGHT) / 2, (1 + _CODE_HEIGHT) / 2, NUM_BITS + 1) * height
    for bit, (top, bottom) in enumerate(pairwise(edges.round())):
        picture[int(top) : int(bottom)] = 255 * (index >> (NUM_BITS - 1 - bit) & 1)
    return picture


def read_index(rgb: Image) -> int:
    """The index that a frame carries; ValueError if the picture leaves a doubt."""
    middle = rgb.shape[1] // 4
    rows = rgb[:, middle : rgb.shape[1] - middle, 1].mean(axis=1)
    code = np.flatnonzero((rows < _BLACK) | (rows > _WHITE))
    if not len(code):
        raise ValueError("the frame has no black or white band; it was not drawn by tests.drawn")
    edges = np.linspace(code[0], code[-1] + 1, NUM_BITS + 1)
    index = 0
    for top, bottom in pairwise(edges):
        level = rows[int((top + bottom) / 2)]
        if _BLACK <= level <= _WHITE:
            raise ValueError(f"the band at rows {top:.1f} to {bottom:.1f} is grey ({level:.0f})")
        index = index << 1 | int(level > _WHITE)
    return index


def serving_frames(
    timestamps: Sequence[float],
    sample_fps: float | None,
    start_seconds: float = 0.0,
    end_seconds: float = math.inf,
    *,
    shown_until: float | None = None,
) -> list[int]:
    """The index of the frame that is shown at each tick, by the definition in DESIGN.md and by brute force.

    sample_fps: None for a tick a frame, of those that are shown in [start_seconds, end_seconds).
    shown_until: when the last frame's showing ends; without it that one is shown for as long as the one before. An
    oracle: it shares no code and no state with `service.video.grid`.
    """
    tolerance = 1e-3
    if shown_until is None:
        shown_until = 2 * timestamps[-1] - timestamps[-2]
    if sample_fps is None:
        shown = enumerate(pairwise([*timestamps, shown_until]))
        return [i for i, (t, gone) in shown if t < end_seconds - tolerance and gone > start_seconds + tolerance]
    serving: list[int] = []
    while True:
        tick = max(start_seconds, timestamps[0]) + len(serving) / sample_fps
        if tick >= min(shown_until, end_seconds) - tolerance:
            return serving
        serving.append(max(index for index, t in enumerate(timestamps) if t <= tick + tolerance))


@contextmanager
def same_scheduling() -> Iterator[None]:
    """SVT-AV1 makes its caller a real-time thread (as root it may), and processes started later inherit that."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Overwrite the matrix of the first track header (`tkhd` version 0, ISO 14496-12 § 8.3.2): a stored (x, y) is shown
    at (a x + c y, b x + d y)."""
    blob = bytearray(path.read_bytes())
    at = blob.index(b"tkhd") + 4 + 40
    one = 1 << 16
    struct.pack_into(">9i", blob, at, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(blob)


def animated_webp() -> bytes:
    """The head of an animated WebP, of which no decoder of ours reads a frame."""
    head = "524946462400000057454250565038580a000000020000000f00000f0000"
    return bytes.fromhex(head + "414e494d06000000ffffffff0000")
