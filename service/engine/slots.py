"""Open clips are bounded in number, each being a decode process and its memory; long ones never hold all places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.fairness import Account, Fair, Priority

# How soon a waiting clip sees that it was cancelled or is too late.
_POLL_SECONDS = 0.2
# Of all places, those that only short clips may take: a quarter, and at least one where there are two.
_SHORT_SHARE = 4
# Of all places, those that jobs may take: with jobs in all places for long clips, who comes would be asked what it is.
_JOB_SHARE = 2


@dataclass(eq=False)
class Place:
    """A clip that waits for a place or has one. is_long: None while its length is not known."""

    account: Account
    is_long: bool | None
    granted: bool = False
    asked: bool = False  # only a place for short clips is free: what is this one?
    woken: threading.Event = field(default_factory=threading.Event)

    @property
    def counts_as_long(self) -> bool:
        return self.is_long is not False or self.is_of_job

    @property
    def is_of_job(self) -> bool:
        return self.account.priority is Priority.JOB


class Slots:
    """Places for open clips, given out by `service.fairness`; thread-safe."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.total_long = total - (max(1, total // _SHORT_SHARE) if total > 1 else 0)
        self.total_of_jobs = max(1, total // _JOB_SHARE)
        self._fair = Fair(unit=1.0, base=1.0)
        self._lock = threading.Lock()
        self._held: set[Place] = set()
        self._waiting: dict[Account, Place] = {}

    @contextmanager
    def place(
        self, priority: Priority, *, is_long: bool | None, check: Callable[[], None], find_out: Callable[[], bool]
    ) -> Iterator[Place]:
        """Wait for a place and hold it. `check` is called while waiting and may raise.

        is_long: None where the length is not known. Such a clip counts as long; when only a place for a short one is
        free, `find_out` says what it is.
        """
        with self._lock:
            place = Place(self._fair.account(priority), is_long)
            self._waiting[place.account] = place
            self._grant()
        try:
            while not place.granted:
                if place.asked and place.is_long is None:
                    self.set_long(place, is_long=find_out())
                    continue
                place.woken.wait(_POLL_SECONDS)
                place.woken.clear()
                check()
            yield place
        finally:
            with self._lock:
                self._waiting.pop(place.account, None)
                self._held.discard(place)
                self._grant()

    def set_long(self, place: Place, *, is_long: bool) -> None:
        """What it has turned out to be; a job always counts as long."""
        with self._lock:
            place.is_long = is_long
            self._grant()

    def num_waiting(self) -> int:
        """Clips without a place."""
        with self._lock:
            return len(self._waiting)

    def _grant(self) -> None:
        """Under the lock: fill what is free."""
        while len(self._held) < self.total:
            room_for_long = sum(place.counts_as_long for place in self._held) < self.total_long
            room_for_jobs = sum(place.is_of_job for place in self._held) < self.total_of_jobs
            fitting = [
                place.account
                for place in self._waiting.values()
                if (room_for_long or not place.counts_as_long) and (room_for_jobs or not place.is_of_job)
            ]
            if not fitting:
                break
            turn = self._fair.choose(fitting)
            self._fair.charge(turn, 1.0, fitting)
            place = self._waiting.pop(turn.account)
            self._held.add(place)
            place.granted = True
            place.woken.set()
        for place in self._waiting.values() if len(self._held) < self.total else ():
            if place.is_long is None and not place.asked:
                place.asked = True
                place.woken.set()
