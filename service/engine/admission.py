"""Admission: what waits, how fast it drains, and whether one more would be answered in time.

All costs are forecasts in seconds of this machine with nothing else to do; how fast they really drain is measured,
so that a forecast that is off by a factor puts itself right.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.engine.drain_rate import DrainRate
from service.errors import Busy, DeadlineExceeded
from service.fairness import SHARES, Priority
from service.metrics import BACKLOG_SECONDS, DRAIN_RATE
from service.video.errors import TooLongForOnline

MAX_RETRY_SECONDS = 600
# What a clip costs of which nothing is known yet: the median of the latest, as one film would spoil a mean.
_TYPICAL_CLIPS = 31
_TIGHT_SHARE = 0.25


@dataclass(frozen=True)
class Cost:
    """Forecast of one clip. machine_seconds: of the whole machine; alone_seconds: until its answer, alone.

    frames: to encode. is_guess: made without a length; good for the queue, and no reason to refuse the clip itself.
    """

    machine_seconds: float
    alone_seconds: float
    frames: float = 1.0
    is_guess: bool = False


@dataclass(eq=False)
class Work:
    """An accepted clip. cost: None until its length is known; done: the share of it that is behind, 0 to 1.

    number: order of arrival.
    """

    priority: Priority
    number: float = math.inf
    cost: Cost | None = None
    done: float = 0.0


class Admission:
    """The backlog of one service. Thread-safe.

    alike_seconds: clips below this cost go first come, first served; what costs more lets them pass.
    saturating: with so many clips no core is idle; only then does the drain rate say what the machine can do.
    """

    def __init__(
        self, alike_seconds: float = 0.0, saturating: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.alike_seconds = alike_seconds
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._works: set[Work] = set()
        self._latest: deque[Cost] = deque(maxlen=_TYPICAL_CLIPS)
        self._typical = Cost(0.0, 0.0)
        self._rate = DrainRate(saturating, clock)

    @contextmanager
    def entered(self, priority: Priority) -> Iterator[Work]:
        """Count a clip whose upload is there, until it is answered or not."""
        work = Work(priority, next(self._numbers))
        with self._lock:
            self._tick()
            self._works.add(work)
            self._publish()
        try:
            yield work
        finally:
            with self._lock:
                self._tick()
                self._works.discard(work)
                if work.cost and work.done >= 1.0:
                    self._latest.append(work.cost)
                    ranked = sorted(self._latest, key=lambda cost: cost.machine_seconds)
                    self._typical = ranked[len(ranked) // 2]
                self._publish()

    def is_tight(self, work: Work, left_seconds: float) -> bool:
        """Whether the wait may cost the deadline: then a clip's header is worth reading before it has a place.

        Raises Busy when a clip like those before could not make it, whatever its header says.
        """
        if left_seconds == math.inf:
            return False
        self._check_wait(self._typical, work, left_seconds)
        return self.wait_seconds(self._typical, work) > _TIGHT_SHARE * left_seconds

    def progress(self, work: Work, done: float) -> None:
        """So much of its cost is behind it (0 to 1)."""
        with self._lock:
            self._tick()
            if work.cost:
                self._rate.add(max(0.0, min(done, 1.0) - work.done) * work.cost.machine_seconds, len(self._works))
            work.done = min(done, 1.0)
            self._publish()

    def judge(self, work: Work, cost: Cost, timeout_seconds: float, left_seconds: float) -> None:
        """Hold an accepted clip of which the cost is now known against its deadline.

        Raises TooLongForOnline, Busy, DeadlineExceeded.
        """
        work.cost = cost
        if work.priority is Priority.JOB:
            return
        if cost.is_guess:
            self._check_wait(cost, work, left_seconds)
            return
        if cost.alone_seconds > timeout_seconds:
            raise TooLongForOnline(
                f"by its header the clip takes about {cost.alone_seconds:.0f} s on this machine, the deadline is "
                f"{timeout_seconds:g} s; send it as a job (/v1/jobs), cut it with end_seconds, or allow more time "
                "with X-Request-Timeout",
                value=round(cost.alone_seconds, 1),
                limit=timeout_seconds,
            )
        if cost.alone_seconds > left_seconds:
            raise DeadlineExceeded(
                f"{left_seconds:.1f} s are left of {timeout_seconds:g} s, and the clip takes about "
                f"{cost.alone_seconds:.1f} s; try again later, or allow more time with X-Request-Timeout",
                value=round(cost.alone_seconds, 1),
                limit=timeout_seconds,
            )
        self._check_wait(cost, work, left_seconds)

    def check_headers(self, timeout_seconds: float, priority: Priority = Priority.INTERACTIVE) -> None:
        """Before the body is read: would a clip like those before be answered in time? Raises Busy."""
        self._check_wait(self._typical, Work(priority), timeout_seconds)

    def wait_seconds(self, cost: Cost, work: Work) -> float:
        """How long other work would hold up a clip of this cost.

        Of its own priority nobody is served more than itself before it is done, or `alike_seconds`; of a higher one
        all; of lower ones their guaranteed share. Who came later is ahead of no clip that is alike.
        """
        with self._lock:
            ahead, guaranteed = 0.0, 0.0
            is_alike = cost.machine_seconds <= self.alike_seconds
            for other in self._works:
                remaining = self._remaining(other)
                if other is work or not remaining:
                    continue
                if other.priority == work.priority:
                    if is_alike and other.number > work.number:
                        continue  # it goes after this one
                    ahead += min(remaining, max(cost.machine_seconds, self.alike_seconds))
                elif other.priority < work.priority:
                    ahead += remaining
                else:
                    guaranteed = max(guaranteed, SHARES.get(other.priority, 0.0))
            return ahead / (1.0 - guaranteed) / self._rate.value

    @property
    def drain_rate(self) -> float:
        """Forecast seconds done in a second of busy time."""
        with self._lock:
            return self._rate.value

    @property
    def backlog_seconds(self) -> float:
        """Forecast of all that is accepted and not done."""
        with self._lock:
            return sum(map(self._remaining, self._works))

    def _check_wait(self, cost: Cost, work: Work, left_seconds: float) -> None:
        wait = self.wait_seconds(cost, work)
        needed = wait + cost.alone_seconds
        if wait and needed > left_seconds:
            raise Busy(
                f"with the work that waits ({wait:.1f} s) the answer would take {needed:.1f} s, {left_seconds:.1f} s "
                "are left; try again later, or allow more time with X-Request-Timeout",
                value=round(needed, 1),
                limit=round(left_seconds, 1),
                retry_after_seconds=max(1, min(MAX_RETRY_SECONDS, math.ceil(needed - left_seconds))),
            )

    def retry_after_seconds(self) -> int:
        """When half of what waits will be done, at the rate at which it drains: then there is room again."""
        return max(1, min(MAX_RETRY_SECONDS, math.ceil(self.backlog_seconds / 2.0 / self.drain_rate)))

    def _remaining(self, work: Work) -> float:
        cost = work.cost or self._typical
        return cost.machine_seconds * (1.0 - work.done)

    def _tick(self) -> None:
        self._rate.tick(len(self._works), sum(work.cost is not None for work in self._works))

    def _publish(self) -> None:
        BACKLOG_SECONDS.set(sum(map(self._remaining, self._works)))
        DRAIN_RATE.set(self._rate.value)
