"""What the timestamps and picture types of a whole video amount to. A pure function of them, apart from decoding."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

from service.video.clock import Clock
from service.video.facts import Keyframes, Walk
from service.video.grid import REPLACED_SECONDS

# Matroska, FLV and others keep whole milliseconds: a timestamp is off by half of one, a step by one.
_ROUNDING_SECONDS = 1e-3 + 1e-6
# Different steps that are counted, to 0.01 ms; a file of more has no common one.
_STEPS_COUNTED = 4096


class Tally:
    """Sums over the frames of a walk; memory is bounded, whatever their number.

    A step counts between two frames whose timestamps are the file's own.
    """

    def __init__(self, step_seconds: float, max_hold_seconds: float = math.inf) -> None:
        self.clock = Clock(step_seconds, max_hold_seconds)
        self._steps: Counter[int] = Counter()
        self._shortest, self._longest = math.inf, 0.0
        self._sum, self._counted = 0.0, 0
        self._previous_is_true = False
        self._intra = self._replaced = 0
        self._run_frames = self._longest_run_frames = 0
        self._run_from = self._longest_run = 0.0

    @property
    def num_frames(self) -> int:
        """Frames added."""
        return self.clock.num_frames

    def add(self, pts_seconds: float, *, intra: bool) -> float:
        """The next frame; its time, seconds."""
        nominal = self.clock.num_nominal
        at = self.clock.tick(pts_seconds)
        is_true = self.clock.num_nominal == nominal
        if self.num_frames > 1 and is_true and self._previous_is_true:
            self._add_step(self.clock.last_step)
        self._previous_is_true = is_true
        self._replaced += self.num_frames > 1 and self.clock.last_step <= REPLACED_SECONDS
        if intra:
            self._end_run(at)
            self._intra += 1
            self._run_frames, self._run_from = 0, at
        self._run_frames += 1
        return at

    def walk(self, end_seconds: float, *, complete: bool) -> Walk:
        """What has been seen; at least one frame. end_seconds: when the last one's showing ends."""
        clock, counted = self.clock, self._counted
        mean = self._sum / counted if counted else None
        return Walk(
            complete=complete,
            num_frames=clock.num_frames,
            duration_seconds=round(end_seconds, 6),
            first_seconds=round(clock.first_seconds, 6),
            last_seconds=round(clock.last_seconds, 6),
            rate=self._rate(mean),
            fps=round(1.0 / mean, 4) if mean else None,
            shortest_step_seconds=round(self._shortest, 6) if counted else None,
            commonest_step_seconds=self._commonest() if counted else None,
            longest_step_seconds=round(self._longest, 6) if counted else None,
            frames_without_time=clock.num_nominal,
            frames_replaced=self._replaced,
            jumps=clock.num_jumps,
            keyframes=self._keyframes(end_seconds),
        )

    def _add_step(self, step: float) -> None:
        self._counted += 1
        self._sum += step
        self._shortest, self._longest = min(self._shortest, step), max(self._longest, step)
        key = round(step * 1e5)
        if key in self._steps or len(self._steps) < _STEPS_COUNTED:
            self._steps[key] += 1

    def _commonest(self) -> float:
        # Counter.most_common imports a module when it is first called, and a decode process opens no file.
        return max(self._steps, key=self._steps.__getitem__) / 1e5

    def _rate(self, mean: float | None) -> Literal["constant", "variable", "unknown"]:
        if mean is None:
            return "unknown"
        even = self._longest - mean <= _ROUNDING_SECONDS and mean - self._shortest <= _ROUNDING_SECONDS
        return "constant" if even else "variable"

    def _end_run(self, at: float) -> None:
        if self._intra:
            self._longest_run_frames = max(self._longest_run_frames, self._run_frames)
            self._longest_run = max(self._longest_run, at - self._run_from)

    def _keyframes(self, end_seconds: float) -> Keyframes | None:
        if not self._intra:
            return None
        self._end_run(end_seconds)
        return Keyframes(
            count=self._intra,
            longest_frames=self._longest_run_frames,
            longest_seconds=round(self._longest_run, 6),
            mean_seconds=round((end_seconds - self.clock.first_seconds) / self._intra, 6),
        )
