"""The known answer that goes into a bundle: drawn frames, and what PyTorch in float64 makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.prove.reference import Reference
from service.engine.known_answer import KnownAnswer
from service.video.spec import ClipSpec

_FRAMES = 4
# A side of the drawing's squares, pixels: flat enough to take some kilobytes, and an edge in most convolutions.
_SQUARE = 8
_LONGEST_WINDOW = 64


def known_answer(reference: Reference) -> KnownAnswer:
    """Of the model's own networks; the same every time."""
    spec = reference.model.spec
    frames = _draw(spec)
    features = reference.features(frames).astype(np.float32)
    # The frames in turn, then backwards: a head that ignores order or length gives other scores.
    length = min(spec.window_frames or _LONGEST_WINDOW, _LONGEST_WINDOW)
    round_trip = [*range(_FRAMES), *range(_FRAMES - 1, -1, -1)]
    window = np.array([round_trip[tick % len(round_trip)] for tick in range(length)], np.int64)
    outputs, _ = reference.outputs(features[window])
    return KnownAnswer(frames, features, window, reference.activated(outputs).astype(np.float32))


def _draw(spec: ClipSpec) -> NDArray[np.uint8]:
    """uint8 RGB (4, H, W, 3): coloured squares, each frame brighter than the one before, the last one negative."""
    random = np.random.default_rng(7)
    rows, columns = -(-spec.frame_height // _SQUARE), -(-spec.frame_width // _SQUARE)
    # Few colours: what does not compress would be most of the bundle.
    squares = random.integers(0, 6, (rows, columns, 3)) * 51
    picture = squares.repeat(_SQUARE, axis=0).repeat(_SQUARE, axis=1)[: spec.frame_height, : spec.frame_width]
    shades = [picture * (number + 1) // (_FRAMES - 1) for number in range(_FRAMES - 1)]
    return np.stack([*shades, 255 - picture]).astype(np.uint8)
