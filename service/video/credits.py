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
    """What one open video has had: seconds of turns, and of waiting for them.

    level_seconds: its turns, counted from where the others stood when it came or came back.
    """

    level_seconds: float
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0
    num_turns: int = 0


class Credits:
    """A semaphore whose next turn goes to the video that has had least (start-time fair queueing, Goyal et al. 1996).

    A newcomer starts level with the one served last: it is next, and can't hold the others up for time that
    it has missed. So does a video that did not ask for a while.
    """

    def __init__(self, num_credits: int) -> None:
        self._free = num_credits
        self._changed = threading.Condition()
        self._level_seconds = 0.0
        self._waiting: list[Share] = []

    def share(self) -> Share:
        """An account for a video that opens."""
        return Share(self._level_seconds)

    @contextmanager
    def turn(self, share: Share, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait for a credit and hold it; `check` is called while waiting and may raise."""
        self._wait(share, check)
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            share.level_seconds += seconds
            share.busy_seconds += seconds
            share.num_turns += 1
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _wait(self, share: Share, check: Callable[[], None]) -> None:
        started = time.monotonic()
        with self._changed:
            share.level_seconds = max(share.level_seconds, self._level_seconds)
            self._waiting.append(share)
            try:
                while not self._free or share is not min(self._waiting, key=lambda each: each.level_seconds):
                    self._changed.wait(_POLL_SECONDS)
                    check()
                self._free -= 1
                self._level_seconds = max(self._level_seconds, share.level_seconds)
            finally:
                self._waiting.remove(share)
                self._changed.notify_all()
                share.waited_seconds += time.monotonic() - started
