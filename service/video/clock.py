"""Presentation time: the timestamps of a file, made to rise. A pure function of them, apart from decoding."""

from __future__ import annotations

import math
from typing import Literal

TimeBase = Literal["pts", "nominal"]


class Clock:
    """Gives each frame, in the order of decoding, a time after the one before.

    A timestamp that is missing, not a number, or not after the last one is replaced by the last time plus
    the nominal step; later timestamps count again as soon as they rise.

    >>> clock = Clock(step_seconds=0.04)
    >>> [round(clock.tick(pts), 2) for pts in (0.0, 0.04, 0.04, 0.12)], clock.num_nominal
    ([0.0, 0.04, 0.08, 0.12], 1)
    """

    def __init__(self, step_seconds: float) -> None:
        self.step_seconds = step_seconds
        self.num_frames = self.num_nominal = 0
        self.last_seconds = self.last_step = math.nan

    def tick(self, pts_seconds: float) -> float:
        """The time of the next frame, seconds from the stream's start."""
        self.num_frames += 1
        seconds = pts_seconds
        if self.num_frames == 1:
            if not math.isfinite(seconds):
                self.num_nominal += 1
                seconds = 0.0
            self.last_step = self.step_seconds
        else:
            if not self.last_seconds < seconds < math.inf:
                self.num_nominal += 1
                seconds = self.last_seconds + self.step_seconds
            self.last_step = seconds - self.last_seconds
        self.last_seconds = seconds
        return seconds

    @property
    def end_seconds(self) -> float:
        """When the last frame's showing ends, as long as the one before it was shown."""
        return self.last_seconds + self.last_step

    @property
    def time_base(self) -> TimeBase:
        """`nominal` when a timestamp had to be made up."""
        return "nominal" if self.num_nominal else "pts"
