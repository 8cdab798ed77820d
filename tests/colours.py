"""Between R'G'B' and coded samples, in floating point, by the standards' own formulas: what a conversion should give.

ITU-T H.273 (08/2024) § 8.3 has matrices and ranges; they are those of ITU-R BT.601, BT.709 and BT.2020. Nothing here
imports `service` or uses libswscale: `planes` draws what an encoder takes, `exact` reads what a decoder gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import av
import numpy as np
from av.video.format import VideoFormatComponent
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.float64]
# R'G'B' at positions (y, x) of luma samples, nominally 0 to 1: (..., 3).
Scene = Callable[[Plane, Plane], Plane]

# Kr and Kb (H.273, table 4) by MatrixCoefficients. Without one, FFmpeg and most players take BT.601.
UNTAGGED = 2
WEIGHTS = {
    1: (0.2126, 0.0722), UNTAGGED: (0.299, 0.114), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
    7: (0.212, 0.087), 9: (0.2627, 0.0593),
}  # fmt: skip
# Where samples of packed formats lie: (plane, offset, step), in samples, by component (RGB(A) or YCbCr).
_PACKED = {
    "rgb24": ((0, 0, 3), (0, 1, 3), (0, 2, 3)),
    "bgr24": ((0, 2, 3), (0, 1, 3), (0, 0, 3)),
    "rgb48be": ((0, 0, 3), (0, 1, 3), (0, 2, 3)),
    "rgb48le": ((0, 0, 3), (0, 1, 3), (0, 2, 3)),
    "bgr0": ((0, 2, 4), (0, 1, 4), (0, 0, 4)),
    "bgra": ((0, 2, 4), (0, 1, 4), (0, 0, 4), (0, 3, 4)),
    "rgba": ((0, 0, 4), (0, 1, 4), (0, 2, 4), (0, 3, 4)),
    "argb": ((0, 1, 4), (0, 2, 4), (0, 3, 4), (0, 0, 4)),
    "yuyv422": ((0, 0, 2), (0, 1, 4), (0, 3, 4)),
    "uyvy422": ((0, 1, 2), (0, 0, 4), (0, 2, 4)),
    "nv12": ((0, 0, 1), (1, 0, 2), (1, 1, 2)),
}
# Levels of each primary in a palette that is drawn.
_LEVELS = 6


@dataclass(frozen=True)
class Coding:
    """How samples stand for a picture. matrix: of `WEIGHTS`; full: range; centred: chroma lies amid its luma samples
    (JPEG), not on the left ones (MPEG)."""

    matrix: int = UNTAGGED
    full: bool = False
    centred: bool = False


def planes(scene: Scene, width: int, height: int, pixel_format: str, coding: Coding) -> av.VideoFrame:
    """A frame of the scene, each sample taken at its own place. Alpha falls to the right."""
    frame = av.VideoFrame(width, height, pixel_format)
    if pixel_format == "pal8":
        return _palette(scene, width, height)
    buffers = [np.zeros((plane.height, plane.line_size), np.uint8) for plane in frame.planes]
    for index, component in enumerate(frame.format.components):
        across, down = _steps(frame, component)
        x = np.arange(component.width) * across + _centre(across, coding.centred)
        y = np.arange(component.height) * down + (down - 1) / 2
        if component.is_alpha:
            values = np.broadcast_to(1 - x / width, (component.height, component.width))
        else:
            values = _component(scene(*np.broadcast_arrays(y[:, None], x)), frame.format, index, coding)
        samples = _samples(frame, index, buffers)
        scale, offset = _levels(frame.format, index, coding)
        samples[:] = np.rint(values * scale + offset).clip(0, 2**component.bits - 1)
    for plane, buffer in zip(frame.planes, buffers, strict=True):
        plane.update(buffer.tobytes())
    return frame


def exact(frame: av.VideoFrame, coding: Coding) -> Plane:
    """R'G'B' of a decoded frame, 0 to 255, unrounded: (height, width, 3)."""
    if frame.format.name == "pal8":
        indices, palette = cast(tuple[Image, Image], frame.to_ndarray())
        return np.asarray(palette[indices][..., 1:], np.float64)
    buffers = [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
        for plane in frame.planes[: 1 + max(component.plane for component in frame.format.components)]
    ]
    found = []
    for index, component in enumerate(frame.format.components):
        if component.is_alpha:
            continue
        scale, offset = _levels(frame.format, index, coding)
        values = (_samples(frame, index, buffers).astype(np.float64) - offset) / scale
        across, down = _steps(frame, component)
        found.append(_upsampled(values, frame.width, frame.height, across, down, coding.centred))
    if not frame.format.is_rgb:
        found = _rgb(found, coding.matrix)
    return np.stack(found, axis=-1).clip(0, 1) * 255


def coding_of(frame: av.VideoFrame, *, centred: bool = False) -> Coding:
    """As a decoded frame is tagged. What has no tag is limited, but for grey and for formats that are full by name."""
    name = frame.format.name
    by_name = name.startswith("yuvj") or (name.startswith("gray") and frame.color_range == ColorRange.UNSPECIFIED)
    matrix = frame.colorspace if frame.colorspace in WEIGHTS else UNTAGGED
    return Coding(matrix, by_name or frame.color_range == ColorRange.JPEG, centred)


def _component(rgb: Plane, pixel_format: av.VideoFormat, index: int, coding: Coding) -> Plane:
    """One of R, G, B in [0, 1], or of Y in [0, 1], Cb and Cr in [-0.5, 0.5] (H.273, equations 38 to 40)."""
    if pixel_format.is_rgb:
        return rgb[..., index]
    kr, kb = WEIGHTS[coding.matrix]
    luma = np.asarray(rgb @ [kr, 1 - kr - kb, kb])
    if index == 0:
        return luma
    return (rgb[..., 2] - luma) / (2 * (1 - kb)) if index == 1 else (rgb[..., 0] - luma) / (2 * (1 - kr))


def _rgb(ycbcr: list[Plane], matrix: int) -> list[Plane]:
    if len(ycbcr) < 3:
        return [ycbcr[0]] * 3
    kr, kb = WEIGHTS[matrix]
    y, cb, cr = ycbcr
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return [red, (y - kr * red - kb * blue) / (1 - kr - kb), blue]


def _levels(pixel_format: av.VideoFormat, index: int, coding: Coding) -> tuple[float, float]:
    """Sample = value * scale + offset (H.273, equations 20 to 37)."""
    component = pixel_format.components[index]
    bits = component.bits
    top = 2**bits - 1
    if pixel_format.is_rgb or component.is_alpha:
        return top, 0
    unit = 2 ** (bits - 8)
    if index in (1, 2) and len(pixel_format.components) > 2:
        return (top if coding.full else 224 * unit), 128 * unit
    return (top, 0) if coding.full else (219 * unit, 16 * unit)


def _steps(frame: av.VideoFrame, component: VideoFormatComponent) -> tuple[int, int]:
    """Luma samples from one of this component's to the next, across and down."""
    return -(-frame.width // component.width), -(-frame.height // component.height)


def _centre(step: int, centred: bool) -> float:
    return (step - 1) / 2 if centred else 0.0


def _samples(frame: av.VideoFrame, index: int, buffers: Sequence[NDArray[Any]]) -> NDArray[np.uint16]:
    """View of a component's samples in its plane's bytes."""
    component = frame.format.components[index]
    name = frame.format.name
    plane, offset, step = _PACKED[name][index] if name in _PACKED else (component.plane, 0, 1)
    kind = np.dtype(np.uint8 if component.bits <= 8 else ">u2" if name.endswith("be") else "<u2")
    rows = buffers[plane].view(kind)
    return rows[: component.height, offset::step][:, : component.width]


def _upsampled(values: Plane, width: int, height: int, across: int, down: int, centred: bool) -> Plane:
    """Linear between samples, held beyond the outer ones."""
    if across > 1:
        values = _linear(values.T, (np.arange(width) - _centre(across, centred)) / across).T
    return _linear(values, (np.arange(height) - (down - 1) / 2) / down) if down > 1 else values


def _linear(rows: Plane, at: Plane) -> Plane:
    at = at.clip(0, len(rows) - 1)
    low = np.minimum(at.astype(int), max(len(rows) - 2, 0))
    share = (at - low)[:, None]
    return np.asarray(rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share)


def _palette(scene: Scene, width: int, height: int) -> av.VideoFrame:
    """The nearest of six levels of each primary."""
    rgb = scene(*np.broadcast_arrays(np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)))
    indices = np.rint(rgb.clip(0, 1) * (_LEVELS - 1)).astype(np.uint8) @ np.array([_LEVELS**2, _LEVELS, 1], np.uint8)
    levels = np.arange(_LEVELS) * 255 // (_LEVELS - 1)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    palette = np.full((256, 4), 255, np.uint8)
    palette[: len(colours), 1:] = colours
    return av.VideoFrame.from_ndarray((indices.astype(np.uint8), palette), format="pal8")  # type: ignore[arg-type]
