"""Where a request's time goes: busy seconds by stage."""

from __future__ import annotations

import time

from service.results import Timing

_STAGES = ("probe", "decode", "queue", "encode", "head", "post")


class Watch:
    """Adds up the busy time of each stage. submitted: `time.perf_counter()` when the request began to wait.

    counts_wait: whether the wait until now is in `queue`; of several passes over a clip it is the first one's.
    """

    def __init__(self, submitted: float | None, *, counts_wait: bool = True) -> None:
        now = time.perf_counter()
        self.started = now if submitted is None else submitted
        self._seconds = dict.fromkeys(_STAGES, 0.0)
        if counts_wait:
            self.add("queue", now - self.started)  # for a thread; places, turns and the encoder's queue come on top

    def add(self, stage: str, seconds: float) -> None:
        """So much more of a stage."""
        self._seconds[stage] += seconds

    def timing(self, upload_seconds: float, **own: float) -> Timing:
        """As the answer shows it; total: from the upload's first byte until now. own: one model's seconds of stages."""
        total = upload_seconds + time.perf_counter() - self.started
        stages = {name: round(seconds * 1e3, 3) for name, seconds in (self._seconds | own).items()}
        return Timing(upload=round(upload_seconds * 1e3, 3), total=round(total * 1e3, 3), **stages)
