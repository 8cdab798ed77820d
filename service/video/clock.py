"""Presentation time: the timestamps of a file, made to rise. A pure function of them, apart from decoding."""

from __future__ import annotations

import math
from typing import Literal

TimeBase = Literal["pts", "nominal"]

# Of the nominal step, the least that a made-up one is.
_LEAST_SHARE = 0.1
# Times are told in microseconds: less is no rise.
_LEAST_STEP_SECONDS = 1e-6


class Clock:
    """Gives each frame, in the order of decoding, a time after the one before.

    A timestamp that is missing, not a number, or not after the last one is replaced by the last time plus
    the nominal step, or plus the last step between two timestamps where that is shorter: a made-up step
    longer than the real ones would leave every later timestamp behind it. Later timestamps count again as
    soon as they rise. Where the first one lies before the stream's start, that start is wrong, and times count
    from the first frame.

    >>> clock = Clock(step_seconds=0.04)
    >>> [round(clock.tick(pts), 2) for pts in (0.0, 0.04, 0.04, 0.12)], clock.num_nominal
    ([0.0, 0.04, 0.08, 0.12], 1)
    """

    def __init__(self, step_seconds: float) -> None:
        self.step_seconds = step_seconds
        self.num_frames = self.num_nominal = 0
        self.last_seconds = self.last_step = math.nan
        self._filler, self._was_given = step_seconds, False
        self._start_seconds = 0.0

    def tick(self, pts_seconds: float) -> float:
        """The time of the next frame, seconds from the stream's start."""
        is_first = self.num_frames == 0
        if is_first and -math.inf < pts_seconds < 0:
            self._start_seconds = pts_seconds
        seconds = pts_seconds - self._start_seconds
        is_given = math.isfinite(seconds) and (is_first or seconds >= self.last_seconds + _LEAST_STEP_SECONDS)
        if not is_given:
            seconds = 0.0 if is_first else self.last_seconds + self._filler
        self.last_step = self.step_seconds if is_first else seconds - self.last_seconds
        if is_given and self._was_given:
            self._filler = min(self.step_seconds, max(self.last_step, self.step_seconds * _LEAST_SHARE))
        self.num_frames += 1
        self.num_nominal += not is_given
        self.last_seconds, self._was_given = seconds, is_given
        return seconds

    @property
    def end_seconds(self) -> float:
        """When the last frame's showing ends, as long as the one before it was shown."""
        return self.last_seconds + self.last_step

    @property
    def time_base(self) -> TimeBase:
        """`nominal` when a timestamp had to be made up."""
        return "nominal" if self.num_nominal else "pts"
