"""Which frames will be asked for, foretold from the steps between frames: how long one is shown is known too late."""

from __future__ import annotations

import math

from service.video.clock import Clock

# Steps of a constant rate are equal, or rounded to the container's time base, 1 ms at worst, at both ends.
_EXACT_SECONDS, _ROUNDED_SECONDS = 1e-5, 2e-3
# Of a variable rate: the next picture may be shown so much longer than any before it.
_HEADROOM = 1.5
# Of equal steps: less than the grid's tolerance, or the frame before a tick's own would be retrieved as well.
_LEAST_SLACK_SECONDS = 5e-4


class Foresight:
    """Until when the frame that was grabbed last may be shown.

    A constant rate is foretold exactly. Once steps vary, half as long again as the longest step so far; once that was
    wrong too (`failed`), or where pictures are held by their format, for ever: every frame may be asked for.
    """

    def __init__(self, clock: Clock, *, holds_pictures: bool) -> None:
        self._clock = clock
        self._is_steady = not holds_pictures
        self._slack_seconds = _LEAST_SLACK_SECONDS
        self._longest_seconds = math.inf if holds_pictures else 0.0
        self._before_seconds = math.nan

    def learn(self) -> None:
        """The clock has ticked."""
        clock = self._clock
        step = clock.last_step
        if clock.num_frames > 1:
            if clock.num_frames > 2:
                change = abs(step - self._before_seconds)
                if change > _EXACT_SECONDS:
                    self._slack_seconds = _ROUNDED_SECONDS
                    self._is_steady = self._is_steady and change <= _ROUNDED_SECONDS
            self._longest_seconds = max(self._longest_seconds, step)
        self._before_seconds = step

    def failed(self) -> None:
        """A frame was shown for longer, and asked for."""
        self._is_steady, self._longest_seconds = False, math.inf

    @property
    def until_seconds(self) -> float:
        """Time at which it may be gone."""
        step = self._clock.last_step if self._is_steady else self._longest_seconds * _HEADROOM
        return self._clock.last_seconds + step + self._slack_seconds
