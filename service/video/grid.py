"""The sampling grid: pure functions of the times at which frames are shown, apart from any decoding.

t_k = t_0 + k / sample_fps with t_0 = max(start_seconds, first timestamp), relative to the stream's start.
A tick belongs to the frame that is shown then: the last one with timestamp <= t_k + 1 ms, shown until the next one
comes, and the last one until its end. A frame may serve several ticks; it is then encoded once and its feature
repeated.
"""

from __future__ import annotations

import math

# Containers round timestamps to their time base (1 ms in Matroska); a tick must not miss its frame for that.
# The microsecond, in which times are told, decides what lies just on that edge (29.97 a second: 1.001 s).
TOLERANCE_SECONDS = 1e-3 + 1e-6


class SamplingGrid:
    """Counts, frame by frame in presentation order, the ticks that each frame serves.

    >>> grid = SamplingGrid(sample_fps=4.0)
    >>> [grid.take(i / 10, (i + 1) / 10) for i in range(6)]
    [1, 0, 1, 0, 0, 1]
    """

    def __init__(self, sample_fps: float, start_seconds: float = 0.0, end_seconds: float = math.inf) -> None:
        self.sample_fps = sample_fps
        self.start_seconds = start_seconds
        self.end_seconds = end_seconds
        self.origin_seconds: float | None = None
        self.num_ticks = 0
        self._next_seconds = -math.inf  # of the next tick, once there is an origin

    def tick_seconds(self, tick: int) -> float:
        """Time of a tick on the grid, seconds from the stream's start."""
        if self.origin_seconds is None:
            raise ValueError("the grid has no origin before the first timestamp")
        return self.origin_seconds + tick / self.sample_fps

    def due(self, from_seconds: float, until_seconds: float) -> int:
        """Ticks that a frame shown between two times would serve, without taking them.

        Of frames in their order; what earlier ones left is this one's. The first one seen fixes the origin. Ticks at
        or after `end_seconds` (less the tolerance) are nobody's.
        """
        if self.origin_seconds is None:
            self.origin_seconds = self._next_seconds = max(self.start_seconds, from_seconds)
        last = min(until_seconds, self.end_seconds) - TOLERANCE_SECONDS
        return 0 if last <= self._next_seconds else self._before(last) - self.num_ticks

    def awaits(self, until_seconds: float) -> bool:
        """Whether a frame shown until then would serve a tick; of the first one nobody knows, so it may."""
        return min(until_seconds, self.end_seconds) - TOLERANCE_SECONDS > self._next_seconds

    def take(self, from_seconds: float, until_seconds: float) -> int:
        """Ticks that the frame serves (0: it is walked over), now spent."""
        if ticks := self.due(from_seconds, until_seconds):
            self.num_ticks += ticks
            self._next_seconds = self.tick_seconds(self.num_ticks)
        return ticks

    @property
    def exhausted(self) -> bool:
        """Whether no later frame can serve a tick."""
        return self._next_seconds >= self.end_seconds - TOLERANCE_SECONDS

    def _before(self, seconds: float) -> int:
        """How many ticks lie before a time. In one step, however long the gap; then exactly, as it is rounded."""
        assert self.origin_seconds is not None  # noqa: S101  (`due` sets it)
        ticks = max(0, math.ceil((seconds - self.origin_seconds) * self.sample_fps))
        while ticks and self.tick_seconds(ticks - 1) >= seconds:
            ticks -= 1
        while self.tick_seconds(ticks) < seconds:
            ticks += 1
        return ticks
