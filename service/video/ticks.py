"""When the ticks of a clip are: of a grid by its rate, of frames that are ticks themselves by each one's own time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.video.chunk import Times
from service.video.windows import Window

# 0.7 s at 10 a second is above 7 ticks in binary.
_ROUNDING_TICKS = 1e-6
# Times are told in microseconds; of a difference each end may be off by half of one.
_MICROSECONDS, _ROUNDING_MICROSECONDS = 1e6, 1.001


@dataclass(frozen=True)
class TickTimes:
    """Times in seconds from the stream's start.

    sample_fps, origin_seconds: tick k of a grid is at origin + k / sample_fps. Where sample_fps is None, tick k is at
    starts[k], (ticks,) float64, not falling. end_seconds: when the last one ends.
    """

    sample_fps: float | None
    origin_seconds: float
    end_seconds: float
    starts: Times

    def at(self, tick: int) -> float:
        """When it begins."""
        if self.sample_fps is None:
            return float(self.starts[tick])
        return self.origin_seconds + tick / self.sample_fps

    def measured(self, cells: Sequence[Window], shortest_seconds: float) -> tuple[NDArray[np.int64], int]:
        """Where each cell begins and the last one ends, (cells + 1,) int64, and the least length, in one whole unit.

        On a grid in ticks, a length being a number of them; else in microseconds. A length beyond the clip is as good
        as any other: the product with a rate may be too large for a number.
        """
        stop = cells[-1].stop
        edges = np.array([*(cell.start for cell in cells), stop])
        if self.sample_fps is None:
            seconds = np.append(self.starts, self.end_seconds)[edges]
            least = min(shortest_seconds, seconds[-1] - seconds[0] + 1.0) * _MICROSECONDS - _ROUNDING_MICROSECONDS
            return np.rint(seconds * _MICROSECONDS).astype(np.int64), math.ceil(least)
        return edges, math.ceil(min(shortest_seconds * self.sample_fps, stop + 1) - _ROUNDING_TICKS)
