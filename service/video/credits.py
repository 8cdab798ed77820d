"""Turns on the cores: as many videos decode at once as there are cores, and each gets its fair share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# How soon a waiting clip sees that it was cancelled.
_POLL_SECONDS = 0.1


@dataclass(eq=False)
class Share:
    """What one open video has had: seconds of turns and of waiting for them.

    level_seconds: its turns, counted from where the others stood when it came.
    """

    level_seconds: float
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0
    num_turns: int = 0


class Credits:
    """A semaphore whose next turn goes to the open video that has had least.

    As in a fair scheduler (Linux CFS), a newcomer starts level with the one that has had least: it is served next,
    and can't hold the others up for the time it has missed.
    """

    def __init__(self, num_credits: int) -> None:
        self.num_credits = num_credits
        self._free = num_credits
        self._changed = threading.Condition()
        self._open: list[Share] = []
        self._waiting: list[Share] = []

    def join(self) -> Share:
        """An account for a video that opens."""
        with self._changed:
            share = Share(min((other.level_seconds for other in self._open), default=0.0))
            self._open.append(share)
            return share

    def leave(self, share: Share) -> None:
        """The video is closed."""
        with self._changed:
            self._open.remove(share)

    @contextmanager
    def turn(self, share: Share, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait for a credit and hold it; `check` is called while waiting and may raise."""
        self._wait(share, check)
        started = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                seconds = time.monotonic() - started
                share.level_seconds += seconds
                share.busy_seconds += seconds
                share.num_turns += 1
                self._free += 1
                self._changed.notify_all()

    def _wait(self, share: Share, check: Callable[[], None]) -> None:
        started = time.monotonic()
        with self._changed:
            self._waiting.append(share)
            try:
                while not (self._free and share is min(self._waiting, key=lambda each: each.level_seconds)):
                    self._changed.wait(_POLL_SECONDS)
                    check()
                self._free -= 1
            finally:
                self._waiting.remove(share)
                share.waited_seconds += time.monotonic() - started
                self._changed.notify_all()
