"""An independent decoder (PyAV, with an FFmpeg of its own) and an exact resize, to hold ours against.

Nothing here imports `service`. Conversion to RGB takes the settings OpenCV gives to swscale (BGR order, bicubic
chroma) and the tags it heeds, and the true matrix: two decoders that agree give the same bytes, and what differs
is decoding, or our correction of the matrix.
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

# OpenCV leaves the last rows of 4:2:0 with more than 8 bits unwritten where the coded picture may be higher than the
# shown one (by the codec: what a coded height is a multiple of at worst); ours repeats the row above.
_CODED_ROWS, _UNWRITTEN = {"h264": 32, "hevc": 64}, 3


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
            picture = _rgb(reformatter, _plain(frame))
            if frame.height % _CODED_ROWS.get(stream.codec_context.name, 1) and _is_deep_420(frame.format):
                picture[-_UNWRITTEN:] = picture[-_UNWRITTEN - 1]
            yield Frame(seconds, picture, about)


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


def _plain(frame: av.VideoFrame) -> av.VideoFrame:
    """Y, Cb and Cr with matrix and range, without the tags that swscale heeds today and did not in FFmpeg 5.1:
    transfer function and primaries (it would map HDR), the site of chroma, and that a frame is two fields."""
    if frame.format.is_rgb or len(frame.planes) < 3:
        return frame
    plain = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for source, target in zip(frame.planes, plain.planes, strict=True):
        rows = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)[: target.height]
        copy = np.zeros((target.buffer_size // target.line_size, target.line_size), np.uint8)
        width = min(source.line_size, target.line_size)
        copy[: len(rows), :width] = rows[:, :width]
        target.update(copy.tobytes())
    plain.colorspace, plain.color_range = frame.colorspace, frame.color_range
    return plain


def _is_deep_420(pixel_format: av.VideoFormat) -> bool:
    return "420p" in pixel_format.name and pixel_format.components[0].bits > 8


def _rgb(reformatter: VideoReformatter, frame: av.VideoFrame) -> Image:
    bgr = reformatter.reformat(frame, format="bgr24", interpolation=Interpolation.BICUBIC, threads=1).to_ndarray()
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
