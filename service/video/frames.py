"""One decoded frame to one encoder frame: pixel aspect, fit, orientation, colour order."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from service.video.orientation import Orientation
from service.video.spec import ClipSpec

# Of what this module makes of a frame: features stored from another revision are stale.
REVISION = 3

Image = NDArray[np.uint8]


def prepare(bgr: Image, spec: ClipSpec, orientation: Orientation, out: Image, pixel_aspect: float = 1.0) -> None:
    """Write a decoded frame into `out` as the encoder wants it.

    bgr: (h, w, 3) uint8, as stored; pixel_aspect: width of a stored pixel by its height (the sample aspect ratio,
    ITU-T H.264 E.2.1); out: (frame_height, frame_width, 3) uint8 RGB, C-contiguous.

    The spec's region is cut out first. Each side is halved while it is at least twice the target, a plain mean of
    neighbours (cheap, no aliasing), then brought to it bilinearly by less than 2. The turn comes last, on few
    pixels: with the target's sides swapped for it, the picture is the same.
    """
    height, width = spec.frame_height, spec.frame_width
    if orientation.swaps_sides:
        height, width = width, height
    if spec.region is not None:
        bgr = spec.region.of(bgr, orientation)
    if spec.resize == "crop":
        bgr = _centre(bgr, height * pixel_aspect / width)
    while (down := 1 + (bgr.shape[0] >= 2 * height)) * (across := 1 + (bgr.shape[1] >= 2 * width)) > 1:
        bgr = _halve(bgr, down, across)
    if bgr.shape[:2] != (height, width):
        bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    cv2.cvtColor(orientation.apply(bgr), cv2.COLOR_BGR2RGB, dst=out)


def _centre(bgr: Image, ratio: float) -> Image:
    """The largest centred part whose stored height is `ratio` of its stored width, as a view."""
    rows = min(bgr.shape[0], round(bgr.shape[1] * ratio)) or 1
    columns = min(bgr.shape[1], round(bgr.shape[0] / ratio)) or 1
    top, left = (bgr.shape[0] - rows) // 2, (bgr.shape[1] - columns) // 2
    return bgr[top : top + rows, left : left + columns]


def _halve(bgr: Image, down: int, across: int) -> Image:
    """Means of blocks of `down` x `across` pixels (1 or 2 each); an odd last row or column is left out."""
    rows, columns = bgr.shape[0] // down, bgr.shape[1] // across
    whole = bgr[: rows * down, : columns * across]
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
