"""Requests in flight: how many, and what those are told who find no place."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator

from service.engine.admission import MAX_RETRY_SECONDS
from service.errors import Overloaded
from service.metrics import IN_FLIGHT

_REMEMBERED = 16


class InFlight:
    """Counts requests; used on the event loop only, so that it needs no lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[object, float] = {}
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)  # seconds that the last ones took

    @contextlib.contextmanager
    def entered(self, limit: int, backlog_seconds: Callable[[], int]) -> Iterator[None]:
        """Count a request while the context lasts. Raises Overloaded at `limit` requests.

        backlog_seconds: to wait by the work that is accepted; uploads that are slow may take longer.
        """
        if len(self._began) >= limit:
            raise Overloaded(
                f"{len(self._began)} requests are in flight, the limit is {limit}; try again later, or raise "
                "max_requests_in_flight",
                value=len(self._began),
                limit=limit,
                retry_after_seconds=max(backlog_seconds(), self.retry_after_seconds()),
            )
        request, began = object(), self._clock()
        self._began[request] = began
        IN_FLIGHT.set(len(self._began))
        try:
            yield
        finally:
            del self._began[request]
            self._latest.append(self._clock() - began)
            IN_FLIGHT.set(len(self._began))

    def retry_after_seconds(self) -> int:
        """Half of what a request takes, uploading included: of the last ones, or of those that take longer still."""
        took = statistics.median(self._latest) if self._latest else 0.0
        began = sorted(self._began.values())
        age = self._clock() - began[len(began) // 2] if began else 0.0
        return max(1, min(MAX_RETRY_SECONDS, math.ceil(max(took, age) / 2.0)))
