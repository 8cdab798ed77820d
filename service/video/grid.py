"""The sampling grid: pure functions of presentation timestamps, apart from any decoding.

t_k = t_0 + k / sample_fps with t_0 = max(start_seconds, first timestamp), relative to the stream's start.
The frame for t_k is the first one with timestamp >= t_k - 1 ms: the one before is gone once the next is
grabbed. A frame may serve several ticks; it is then encoded once and its feature repeated.
"""

from __future__ import annotations

import math

# Containers round timestamps to their time base (1 ms in Matroska); a tick must not miss its frame for that.
TOLERANCE_SECONDS = 1e-3


class SamplingGrid:
    """Counts, frame by frame in presentation order, the ticks that each frame serves.

    >>> grid = SamplingGrid(sample_fps=4.0)
    >>> [grid.take(i / 10) for i in range(6)]
    [1, 0, 0, 1, 0, 1]
    """

    def __init__(self, sample_fps: float, start_seconds: float = 0.0, end_seconds: float = math.inf) -> None:
        self.sample_fps = sample_fps
        self.start_seconds = start_seconds
        self.end_seconds = end_seconds
        self.origin_seconds: float | None = None
        self.num_ticks = 0

    def tick_seconds(self, tick: int) -> float:
        """Time of a tick on the grid, seconds from the stream's start."""
        if self.origin_seconds is None:
            raise ValueError("the grid has no origin before the first timestamp")
        return self.origin_seconds + tick / self.sample_fps

    def due(self, pts_seconds: float) -> int:
        """Ticks that a frame at `pts_seconds` would serve, without taking them.

        The first timestamp seen fixes the origin. Timestamps must rise; frames at or after `end_seconds`
        (less the tolerance) serve nothing.
        """
        if self.ended(pts_seconds):
            return 0
        if self.origin_seconds is None:
            self.origin_seconds = max(self.start_seconds, pts_seconds)
        latest = pts_seconds + TOLERANCE_SECONDS
        # In one step, however long the gap; then exactly, as the quotient is rounded.
        ticks = math.floor((latest - self.origin_seconds) * self.sample_fps) + 1 - self.num_ticks
        ticks = max(0, ticks)
        while ticks and self.tick_seconds(self.num_ticks + ticks - 1) > latest:
            ticks -= 1
        while self.tick_seconds(self.num_ticks + ticks) <= latest:
            ticks += 1
        return ticks

    def take(self, pts_seconds: float) -> int:
        """Ticks that the frame at `pts_seconds` serves (0: it is walked over), now spent."""
        ticks = self.due(pts_seconds)
        self.num_ticks += ticks
        return ticks

    def ended(self, pts_seconds: float) -> bool:
        """Whether no later frame can serve a tick."""
        return pts_seconds >= self.end_seconds - TOLERANCE_SECONDS
