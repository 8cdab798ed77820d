"""An independent decoder (PyAV, with an FFmpeg of its own) and an exact resize, to hold ours against.

Nothing here imports `service`. Conversion to RGB takes the settings that OpenCV gives to libswscale (BGR order, bicubic
chroma), which heeds the frame's own tags: two decoders that agree give the same bytes. OpenCV leaves the target's gamut
and transfer function open, and libswscale then maps what is far from BT.709; PyAV has to be asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import InvalidDataError
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

Image = NDArray[np.uint8]

# As H.273 numbers them.
_BT709, _SDR_PRIMARIES, _HDR_TRANSFERS = 1, (1, 2, 4, 5, 6, 7), (16, 18)


@dataclass(frozen=True)
class Stream:
    """What PyAV says of the first video stream; rotation clockwise, aspect of a stored pixel."""

    rotation_degrees: int
    pixel_aspect: Fraction
    is_interlaced: bool


@dataclass(frozen=True)
class Frame:
    """pts_seconds: relative to the stream's start, None where the file has none; picture: stored, not turned."""

    pts_seconds: float | None
    picture: Image
    stream: Stream


def by_pyav(path: Path) -> Iterator[Frame]:
    """Every frame in presentation order, on one thread; packets that can't be decoded are passed over."""
    reformatter = VideoReformatter()
    with av.open(path) as container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        start = (stream.start_time or 0) * (stream.time_base or Fraction(0))
        aspect = stream.sample_aspect_ratio or Fraction(1)
        for frame in _frames(container, stream):
            seconds = None if frame.pts is None else float(frame.pts * (frame.time_base or 0) - start)
            about = Stream(_clockwise(frame.rotation), aspect, bool(frame.interlaced_frame))
            yield Frame(seconds, _rgb(reformatter, frame), about)


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except InvalidDataError:
            continue
        except EOFError:
            return


def _clockwise(counter_clockwise: int) -> int:
    """A display matrix of zeros has no angle; libavutil then gives the smallest integer."""
    return -counter_clockwise % 360 if abs(counter_clockwise) <= 360 else 0


def _rgb(reformatter: VideoReformatter, frame: av.VideoFrame) -> Image:
    bgr = reformatter.reformat(
        frame, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1,
        dst_color_primaries=None if frame.color_primaries in _SDR_PRIMARIES else _BT709,
        dst_color_trc=_BT709 if frame.color_trc in _HDR_TRANSFERS else None,
    ).to_ndarray()  # fmt: skip
    return np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8, copy=False)


def upright(picture: Image, stream: Stream) -> Image:
    """A stored picture turned as the file says."""
    return np.ascontiguousarray(np.rot90(picture, -stream.rotation_degrees // 90))


def centre_crop(rgb: Image, side: int, pixel_aspect: float = 1.0) -> Image:
    """The largest centred part that is shown square, in whole pixels (an odd margin's extra one lies below and right),
    resized to `side` x `side`."""
    rows, columns = rgb.shape[:2]
    kept_rows = max(1, round(min(rows, columns * pixel_aspect)))
    kept_columns = max(1, round(min(columns, rows / pixel_aspect)))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return stretch(rgb[top : top + kept_rows, left : left + kept_columns], side, side)


def stretch(rgb: Image, height: int, width: int) -> Image:
    """All of the picture, resized; the picture itself when it has that size."""
    if rgb.shape[:2] == (height, width):
        return rgb
    rows, columns = _weights(rgb.shape[0], height), _weights(rgb.shape[1], width)
    scaled = np.tensordot(columns, np.tensordot(rows, rgb.astype(np.float32), axes=(1, 0)), axes=(1, 1))
    return np.rint(scaled.transpose(1, 0, 2)).clip(0, 255).astype(np.uint8)


def _weights(size: int, target: int) -> NDArray[np.float32]:
    """(target, size): the exact mean over a target pixel's area when shrinking, linear between centres otherwise."""
    scale = size / target
    cells = np.arange(size)
    if scale > 1:
        edges = np.arange(target + 1) * scale
        covered = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
        return np.asarray(covered.clip(0) / scale, np.float32)
    centres = ((np.arange(target) + 0.5) * scale - 0.5).clip(0, size - 1)
    return np.asarray((1 - abs(centres[:, None] - cells)).clip(0), np.float32)


def psnr_db(one: Image, other: Image) -> float:
    """Peak signal-to-noise ratio; infinite when equal."""
    if np.array_equal(one, other):
        return float("inf")
    return float(10 * np.log10(255**2 / np.mean((one.astype(np.float64) - other) ** 2)))
