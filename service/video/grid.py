"""The sampling grid: pure functions of the times at which frames are shown, apart from any decoding.

t_k = t_0 + k / sample_fps with t_0 = max(start_seconds, first timestamp), relative to the stream's start.
A tick belongs to the frame that is shown then: the last one with timestamp <= t_k + 1 ms, shown until the next one
comes, and the last one until its end. A frame may serve several ticks; it is then encoded once and its feature
repeated. Without a rate the frames themselves are the ticks.
"""

from __future__ import annotations

import math

# Containers round timestamps to their time base (1 ms in Matroska); a tick must not miss its frame for that.
# The microsecond, in which times are told, decides what lies just on that edge (29.97 a second: 1.001 s).
TOLERANCE_SECONDS = 1e-3 + 1e-6
# A frame whose place the next one takes is there for a microsecond by our clock, give or take its rounding.
REPLACED_SECONDS = 2e-6
# Of a frame shown for so short that the tolerance would hide it: no grid is finer than 240 a second.
_LARGEST_SHARE = 0.25


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

    @property
    def ticks_end_seconds(self) -> float:
        """When the last tick taken ends, unless the stream does before."""
        return self.tick_seconds(self.num_ticks)

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


class FrameGrid:
    """The frames themselves as ticks: every frame that is shown in [start_seconds, end_seconds) is one, however long.

    A tick begins when its frame is shown, at its own time, and ends when that is gone; so tick 0, whose frame is shown
    at `start_seconds`, may begin before it, as the last may end after `end_seconds`. A frame that is in there for no
    more than the tolerance (or a quarter of its showing, where that is less) is not, as on a grid. Of two frames with
    one timestamp the second takes the place of the first, which is no tick.

    >>> grid = FrameGrid(start_seconds=0.25)
    >>> [grid.take(*shown) for shown in ((0.0, 0.1), (0.1, 0.5), (0.5, 9.0), (9.0, 9.1))], grid.origin_seconds
    ([0, 1, 1, 1], 0.1)
    """

    def __init__(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> None:
        self.start_seconds = start_seconds
        self.end_seconds = end_seconds
        self.origin_seconds: float | None = None  # before the first tick: where one was looked for
        self.ticks_end_seconds = math.nan
        self.num_ticks = 0
        self._seen_seconds = -math.inf

    def due(self, from_seconds: float, until_seconds: float) -> int:
        """Whether a frame shown between two times is a tick: 1 or 0. Of frames in their order."""
        self._seen_seconds = until_seconds
        if self.origin_seconds is None:
            self.origin_seconds = max(self.start_seconds, from_seconds)
        shown = until_seconds - from_seconds
        slack = min(TOLERANCE_SECONDS, _LARGEST_SHARE * shown)
        since, until = from_seconds + slack, until_seconds - slack
        is_inside = max(self.start_seconds, since) < min(self.end_seconds, until)
        return int(is_inside and shown > REPLACED_SECONDS)

    def awaits(self, until_seconds: float) -> bool:
        """Whether a frame shown until then may be a tick."""
        return min(until_seconds, self.end_seconds) > self.start_seconds

    def take(self, from_seconds: float, until_seconds: float) -> int:
        """Whether the frame is a tick (0: it is walked over), now counted."""
        ticks = self.due(from_seconds, until_seconds)
        if ticks:
            if self.num_ticks == 0:
                self.origin_seconds = from_seconds
            self.num_ticks += 1
            self.ticks_end_seconds = until_seconds
        return ticks

    @property
    def exhausted(self) -> bool:
        """Whether no later frame can be a tick."""
        return self._seen_seconds >= self.end_seconds


Grid = SamplingGrid | FrameGrid


def grid_of(sample_fps: float | None, start_seconds: float = 0.0, end_seconds: float = math.inf) -> Grid:
    """The grid of this rate; None: the frames themselves."""
    if sample_fps is None:
        return FrameGrid(start_seconds, end_seconds)
    return SamplingGrid(sample_fps, start_seconds, end_seconds)
