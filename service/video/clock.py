"""Presentation time: the timestamps of a file, made to rise. A pure function of them, apart from decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

TimeBase = Literal["pts", "nominal"]

# Of the nominal step, the least that a made-up one is.
_LEAST_SHARE = 0.1
# Times are told in microseconds: less is no rise.
_LEAST_STEP_SECONDS = 1e-6
# Decoders give frames of broken files out of order by a few; a clock that falls by more begins anew.
_FALL_SECONDS = 0.5


@dataclass(frozen=True)
class Jump:
    """A clock that stood at one time and went on at another, both as the file has them, seconds from its start."""

    from_seconds: float
    to_seconds: float

    def __str__(self) -> str:
        return f"from {self.from_seconds:.3f} s to {self.to_seconds:.3f} s"


class Clock:
    """Gives each frame, in the order of decoding, a time after the one before.

    A timestamp that comes a second time is believed: its frame takes the place of the one before. A clock that falls
    by half a second or less (where the parts of an edit list overlap) is waited for: its frames come at the time of
    the one before, until it has come up to that. A timestamp that is missing, not a number, or the same for a third
    time is replaced by the last time plus the nominal step, or plus the last step between two timestamps where that is
    shorter. Where the first one lies before the stream's start, that start is wrong, and times count from the first
    frame. Where the first one lies after the second, it alone is wrong: the first frame comes a step before the second.

    A clock that falls by more than half a second, for two frames at least, or rises by more than `max_hold_seconds`,
    jumps: two recordings were joined. The jump is bridged by one step, and all later times are moved with it.

    >>> clock = Clock(step_seconds=0.04)
    >>> [round(clock.tick(pts), 2) for pts in (0.0, 0.04, math.nan, 0.12, 0.12, 0.16)], clock.num_nominal
    ([0.0, 0.04, 0.08, 0.12, 0.12, 0.16], 1)
    """

    def __init__(self, step_seconds: float, max_hold_seconds: float = math.inf) -> None:
        self.step_seconds = step_seconds
        self.max_hold_seconds = max_hold_seconds
        self._believed_seconds = max(max_hold_seconds, step_seconds)
        self.num_frames = self.num_nominal = self.num_jumps = 0
        self.first_jump: Jump | None = None
        self.first_seconds = self.last_seconds = self.previous_seconds = self.last_step = math.nan
        # The longest step, and when it began.
        self.longest_seconds = self.longest_from_seconds = 0.0
        self._filler, self._was_given = step_seconds, False
        # The last timestamp, by our clock; and for how many frames it has not moved on.
        self._told, self._stands = math.nan, 0
        # Of the file's clock, what is taken off to get ours.
        self._offset = 0.0
        # A fall that no second frame has confirmed.
        self._fallen: Jump | None = None

    def tick(self, pts_seconds: float) -> float:
        """The time of the next frame, seconds from the stream's start."""
        self.num_frames += 1
        seconds = pts_seconds - self._offset
        step = seconds - self.last_seconds
        if self._was_given and self.num_frames > 2 and 2 * _LEAST_STEP_SECONDS < step <= self._believed_seconds:
            # As nearly every frame of nearly every file: nothing below would come to another time.
            self._filler = min(self.step_seconds, max(step, self.step_seconds * _LEAST_SHARE))
            self._told, self._stands, self._fallen = seconds, 0, None
            return self._move(seconds)
        if self.num_frames == 1:
            return self._first(pts_seconds)
        return self._tick_with_care(pts_seconds, seconds)

    def _tick_with_care(self, pts_seconds: float, seconds: float) -> float:
        """Where a timestamp may be missing, wrong, repeated or of another clock. seconds: by our clock, so far."""
        if self.num_frames == 2 and self._was_given and 0.0 <= seconds < self.last_seconds:
            self.first_seconds = self.last_seconds = max(seconds - self.step_seconds, 0.0)
        step = seconds - self.last_seconds
        if step > self._believed_seconds:
            seconds = self.last_seconds + self._filler
            self._jump(Jump(self.last_seconds + self._offset, pts_seconds), seconds)
        elif step < 0.0 and self._fallen and 0.0 < pts_seconds - self._fallen.to_seconds <= self.max_hold_seconds:
            self.num_nominal -= 1  # it told the time, after all
            self._jump(self._fallen, self.last_seconds)
            self._fallen = None
            seconds = pts_seconds - self._offset
        else:
            self._fallen = Jump(self.last_seconds + self._offset, pts_seconds) if step < -_FALL_SECONDS else None
        is_told = math.isfinite(seconds)
        rises = is_told and seconds >= self.last_seconds + _LEAST_STEP_SECONDS
        repeats = self._was_given and abs(seconds - self.last_seconds) < _LEAST_STEP_SECONDS
        self._stands = self._stands + 1 if is_told and abs(seconds - self._told) < _LEAST_STEP_SECONDS else 0
        if rises and self._was_given:
            step = seconds - self.last_seconds
            self._filler = min(self.step_seconds, max(step, self.step_seconds * _LEAST_SHARE))
        if is_told:
            self._told = seconds
        if not rises:
            waits = self._stands < 2 and self.last_seconds - seconds <= _FALL_SECONDS
            seconds = self.last_seconds + (_LEAST_STEP_SECONDS if waits else self._filler)
        self.num_nominal += not (rises or repeats)
        self._was_given = rises
        return self._move(seconds)

    def _move(self, seconds: float) -> float:
        self.last_step = seconds - self.last_seconds
        if self.last_step > self.longest_seconds:
            self.longest_seconds, self.longest_from_seconds = self.last_step, self.last_seconds
        self.previous_seconds, self.last_seconds = self.last_seconds, seconds
        return seconds

    def end_seconds(self, stream_seconds: float | None = None) -> float:
        """When the last frame's showing ends. stream_seconds: the stream's length by the file's own word.

        That is believed where it is after the last frame, and no longer than a hold may be; else the last frame is
        shown for one nominal step.
        """
        return self.end_seconds_held(math.nan if stream_seconds is None else self.hold_seconds(stream_seconds))

    def hold_seconds(self, stream_seconds: float) -> float:
        """From the last frame to the stream's end, by the file's own word; it may be negative."""
        return stream_seconds - self._offset - self.last_seconds

    def end_seconds_held(self, hold_seconds: float) -> float:
        """The same, where the file says how long the last frame is shown."""
        believed = _LEAST_STEP_SECONDS <= hold_seconds <= self._believed_seconds
        return self.last_seconds + (hold_seconds if believed else self._filler)

    @property
    def time_base(self) -> TimeBase:
        """`nominal` when a timestamp had to be made up."""
        return "nominal" if self.num_nominal else "pts"

    def _first(self, pts_seconds: float) -> float:
        self._was_given = math.isfinite(pts_seconds)
        self.num_nominal += not self._was_given
        if pts_seconds < 0:
            self._offset = pts_seconds if self._was_given else 0.0
        self.first_seconds = self.last_seconds = pts_seconds - self._offset if self._was_given else 0.0
        self.last_step = self.step_seconds
        self._told = self.last_seconds if self._was_given else math.nan
        return self.last_seconds

    def _jump(self, jump: Jump, at_seconds: float) -> None:
        """at_seconds: our time of the frame after it."""
        self.num_jumps += 1
        self.first_jump = self.first_jump or jump
        self._offset = jump.to_seconds - at_seconds
        self._told = at_seconds
