"""Turns on the cores: as many videos decode at once as there are cores, and each gets its fair share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.fairness import Account, Fair, Priority, Turn

# How soon a waiting clip sees that it was cancelled.
_POLL_SECONDS = 0.1
# A turn out of order is worth this much; videos with less than the other behind them are alike.
_UNIT_SECONDS = 0.02
_SHORT_SECONDS = 0.25


@dataclass(eq=False)
class Share:
    """What one open video has had: seconds of turns, and of waiting for them."""

    account: Account
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0
    num_turns: int = 0


class Credits:
    """A semaphore whose next turn goes by `service.fairness`: to the video that has had least."""

    def __init__(self, num_credits: int) -> None:
        self._free = num_credits
        self._changed = threading.Condition()
        self._fair = Fair(_UNIT_SECONDS, _SHORT_SECONDS)
        self._waiting: list[Account] = []

    def share(self, priority: Priority = Priority.INTERACTIVE) -> Share:
        """An account for a video that opens."""
        with self._changed:
            return Share(self._fair.account(priority))

    @contextmanager
    def turn(self, share: Share, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait for a credit and hold it; `check` is called while waiting and may raise."""
        chosen, among = self._wait(share, check)
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            share.busy_seconds += seconds
            share.num_turns += 1
            with self._changed:
                self._fair.charge(chosen, seconds, among)
                self._free += 1
                self._changed.notify_all()

    def _wait(self, share: Share, check: Callable[[], None]) -> tuple[Turn, list[Account]]:
        started = time.monotonic()
        with self._changed:
            self._waiting.append(share.account)
            try:
                while True:
                    if self._free and (turn := self._fair.choose(self._waiting)).account is share.account:
                        self._free -= 1
                        return turn, list(self._waiting)
                    self._changed.wait(_POLL_SECONDS)
                    check()
            finally:
                self._waiting.remove(share.account)
                self._changed.notify_all()
                share.waited_seconds += time.monotonic() - started
