"""Sampled frames as they go from decoding to who reads them, with the ticks that they serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
# Of ticks whose grid tells when they are.
NO_TIMES: Times = np.empty(0, np.float64)
NO_TIMES.flags.writeable = False


@dataclass(frozen=True)
class FrameChunk:
    """Sampled frames in presentation order.

    frames: (N, H, W, 3) uint8 RGB; ticks: (N,) int64, the grid ticks that each frame serves, all >= 1. seconds: where
    the frames themselves are the ticks, (N,) float64, when each is shown, from the stream's start; else (0,).
    The frames may lie in memory that is shared with a decoder: call `release` when they have been read.
    """

    frames: NDArray[np.uint8]
    ticks: NDArray[np.int64]
    seconds: Times
    release: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)
