"""One decoded frame to one encoder frame: rotation, fit, colour order."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from service.video.spec import ClipSpec

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def prepare(bgr: NDArray[np.uint8], spec: ClipSpec, rotation_degrees: int, out: NDArray[np.uint8]) -> None:
    """Write a decoded frame into `out` as the encoder wants it.

    bgr: (h, w, 3) uint8, as OpenCV retrieves it; rotation_degrees: clockwise, a multiple of 90;
    out: (frame_height, frame_width, 3) uint8 RGB, C-contiguous.

    Shrinking goes by the largest integer factor first, a plain mean over blocks (cheap, no aliasing),
    then bilinearly by less than 2. The turn comes last, on few pixels: with the target's sides swapped
    for it, the picture is the same.
    """
    height, width = spec.frame_height, spec.frame_width
    if rotation_degrees in (90, 270):
        height, width = width, height
    if spec.resize == "crop":
        bgr = _centre(bgr, height, width)
    factor = min(bgr.shape[0] // height, bgr.shape[1] // width)
    if factor >= 2:
        rows, columns = bgr.shape[0] // factor, bgr.shape[1] // factor
        top, left = (bgr.shape[0] - rows * factor) // 2, (bgr.shape[1] - columns * factor) // 2
        bgr = cv2.resize(  # type: ignore[assignment]
            bgr[top : top + rows * factor, left : left + columns * factor],
            (columns, rows),
            interpolation=cv2.INTER_AREA,
        )
    if bgr.shape[:2] != (height, width):
        bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if rotation_degrees:
        bgr = cv2.rotate(bgr, _ROTATIONS[rotation_degrees])  # type: ignore[assignment]
    cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=out)


def _centre(bgr: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest centred part with the aspect ratio height:width, as a view."""
    rows = min(bgr.shape[0], round(bgr.shape[1] * height / width)) or 1
    columns = min(bgr.shape[1], round(bgr.shape[0] * width / height)) or 1
    top, left = (bgr.shape[0] - rows) // 2, (bgr.shape[1] - columns) // 2
    return bgr[top : top + rows, left : left + columns]
