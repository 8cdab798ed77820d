"""The times of frames by those of their packets, for streams whose start FFmpeg does not know.

Of H.264 in Matroska it needs some frames to know their order, before it knows a decoding time. Had it too few when a
file was opened (pictures that are held for seconds; a short file), it takes the packet that it reads next for the
start: OpenCV's times, which count from there, are wrong, and fall where that happens in mid-stream.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

# Half a step, and what floats add.
_ROUNDED_STEPS = 0.5 + 1e-6


class PacketTimes:
    """Frames come in the order of their packets' times; of one that was lost OpenCV's other clock tells.

    times: of the packets, sorted, seconds. rate: steps of the other clock a second, by which it is rounded; it has no
    start. first_steps: the first frame's; num_frames: that have come.
    """

    def __init__(self, times: Sequence[float], rate: float, first_steps: float, num_frames: int) -> None:
        self._times, self._rate = times, rate
        first = self._find(first_steps, 0)
        self._start = times[first] if first < len(times) else math.nan
        self._next = first + num_frames

    def seconds(self, steps: float) -> float:
        """Of the next frame, from the first one; NaN where there are more frames than packets."""
        at = self._find(steps, self._next)
        self._next = at + 1
        return self._times[at] - self._start if at < len(self._times) else math.nan

    def _find(self, steps: float, after: int) -> int:
        """The packet of this step; where there is none the one that follows."""
        if self._rate <= 0.0 or not math.isfinite(self._rate):
            return after
        at = bisect_left(self._times, (steps - _ROUNDED_STEPS) / self._rate, after)
        is_there = at < len(self._times) and self._times[at] <= (steps + _ROUNDED_STEPS) / self._rate
        return at if is_there else after
