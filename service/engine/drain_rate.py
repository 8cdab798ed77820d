"""How fast accepted work really drains, against its forecast."""

from __future__ import annotations

import math
from collections.abc import Callable

# So much busy time is remembered; it starts as if it had seen some that went as forecast.
_MEMORY_SECONDS = 20.0
_PRIOR_SECONDS = 2.0
# Without load nothing is learnt, and what was is forgotten: a bad hour must not turn clients away for ever.
_FORGET_SECONDS = 60.0
# No forecast is further off than this; what looks like more is a clip that hangs.
_MOST_OFF = 8.0


class DrainRate:
    """Forecast seconds of work done in a second of busy time. Not thread-safe: its owner holds a lock.

    saturating: with so many clips in progress no core is idle; only then does time count.
    """

    def __init__(self, saturating: int, clock: Callable[[], float]) -> None:
        self._saturating = saturating
        self._clock = clock
        self._done_seconds = self._busy_seconds = _PRIOR_SECONDS
        self._since = clock()

    @property
    def value(self) -> float:
        """1 is as forecast."""
        return min(max(self._done_seconds / self._busy_seconds, 1.0 / _MOST_OFF), _MOST_OFF)

    def tick(self, num_clips: int, num_known: int) -> None:
        """Let time pass. num_known: of the clips in progress those with a forecast: only they can earn anything."""
        now = self._clock()
        elapsed, self._since = now - self._since, now
        if num_clips >= self._saturating:
            self._busy_seconds += elapsed * num_known / num_clips
            fade = min(1.0, _MEMORY_SECONDS / self._busy_seconds)
            self._busy_seconds *= fade
            self._done_seconds *= fade
        else:
            kept = math.exp(-elapsed / _FORGET_SECONDS)
            self._busy_seconds = _PRIOR_SECONDS + kept * (self._busy_seconds - _PRIOR_SECONDS)
            self._done_seconds = _PRIOR_SECONDS + kept * (self._done_seconds - _PRIOR_SECONDS)

    def add(self, seconds: float, num_clips: int) -> None:
        """So much of the forecast is done."""
        if num_clips >= self._saturating:
            self._done_seconds += seconds
