"""The head batcher: windows of many clips in one run of the head.

A clip's thread hands in its windows and waits. One thread a model runs them: whatever waits when it is free, sorted
by length and cut into batches. No timer: a window that finds the head idle is run at once, alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from service.bundle import ModelDocument
from service.engine.device_errors import is_sticky
from service.engine.heads import Array, Scoring, state_size
from service.errors import EngineFailed, EngineLost, ReelserveError
from service.metrics import HEAD_BATCHES_RETRIED

log = logging.getLogger(__name__)

# Padding of a batch ≤ its content: a padded tick costs what a tick does, a run of its own some 30 ticks (measured).
_MAX_AREA_TO_CONTENT = 2
_MAX_BATCH_TICKS = 4096  # padding included: 21 MB of features (D = 1280), as the runtime makes copies of them


@dataclass(frozen=True)
class HeadBatch:
    """What one run had: windows, their ticks, and the ticks of padding beside them."""

    windows: int
    ticks: int
    padding_ticks: int


@dataclass(eq=False)
class _Call:
    """Windows of one clip; states: (len(windows), S) before them, or None: zero, and nobody wants those after."""

    windows: Sequence[Array]
    states: Array | None
    scores: list[Array] = field(init=False)
    after: Array = field(init=False)
    left: int = field(init=False)
    done: Future[tuple[Array, Array]] = field(default_factory=Future)

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError("no window to score")
        self.scores = [np.empty(0, np.float32)] * len(self.windows)
        self.after = np.empty_like(np.empty((len(self.windows), 0), np.float32) if self.states is None else self.states)
        self.left = len(self.windows)

    def take(self, index: int, scores: Array, after: Array | None) -> None:
        """One window's rows of scores and, where it is wanted, its state (S)."""
        self.scores[index] = scores
        if self.states is not None:
            self.after[index] = after
        self.left -= 1
        if self.left == 0:
            self.done.set_result((np.concatenate(self.scores), self.after))


@dataclass(frozen=True)
class _Item:
    """One window of a call."""

    call: _Call
    index: int

    @property
    def window(self) -> Array:
        return self.call.windows[self.index]


class HeadBatcher:
    """A head for many clips at once: called as `Head` is, from each clip's own thread, which waits for its answer.

    A clip's scores don't depend on its neighbours. A batch that fails is run again, each clip's windows alone, and
    EngineFailed is raised to those that fail twice; where the device is lost, EngineLost to all. At most one call a
    clip waits, so that nothing grows. observe: told of each run; lost: called once when the device is lost.
    """

    def __init__(
        self,
        head: Scoring,
        *,
        max_batch_windows: int = 32,
        observe: Callable[[HeadBatch], None] = lambda batch: None,
        lost: Callable[[EngineLost], None] = lambda error: None,
    ) -> None:
        self._head = head
        self._max_batch_windows = max_batch_windows
        self._observe, self._lost = observe, lost
        self._failure: EngineLost | None = None
        self._changed = threading.Condition()
        self._waiting: list[_Call] = []
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"head-{head.model.name}", daemon=True)
        self._thread.start()

    @property
    def model(self) -> ModelDocument:
        """The head's model.json."""
        return self._head.model

    def scores(self, windows: Sequence[Array]) -> Array:
        """As `Head.scores`; blocks."""
        return self._result(_Call(windows, None))[0]

    def step(self, pieces: Sequence[Array], states: Array) -> tuple[Array, Array]:
        """As `Head.step`; blocks."""
        return self._result(_Call(pieces, states))

    def close(self) -> None:
        """End the thread once its batches are done; calls that wait, and later ones, raise RuntimeError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _result(self, call: _Call) -> tuple[Array, Array]:
        with self._changed:
            if self._closed:
                raise RuntimeError("the head batcher is closed")
            self._waiting.append(call)
            self._changed.notify_all()
        return call.done.result()

    def _serve(self) -> None:
        calls: list[_Call] = []
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closed)
                    if self._closed:
                        return
                    calls, self._waiting = self._waiting, []
                self._run_all(calls)
                calls = []  # an idle thread keeps no clip's features
        finally:  # whatever ended the thread, nobody waits for it for ever
            with self._changed:
                self._closed = True
                calls += self._waiting
            for call in calls:
                if not call.done.done():
                    call.done.set_exception(RuntimeError("the head batcher is closed"))

    def _batches(self, calls: Sequence[_Call]) -> Iterable[list[_Item]]:
        """Longest first: each batch takes windows for as long as it stays within its bounds."""
        items = [_Item(call, index) for call in calls for index in range(len(call.windows))]
        items.sort(key=lambda item: -len(item.window))
        batch: list[_Item] = []
        content = longest = 0
        for item in items:
            length = len(item.window)
            area = (len(batch) + 1) * longest
            if batch and (
                len(batch) == self._max_batch_windows
                or area > _MAX_BATCH_TICKS
                or area > _MAX_AREA_TO_CONTENT * (content + length)
            ):
                yield batch
                batch, content = [], 0
            if not batch:
                longest = length
            batch.append(item)
            content += length
        yield batch

    def _run_all(self, calls: Sequence[_Call]) -> None:
        for batch in self._batches(calls):
            held = [item for item in batch if not item.call.done.done()]  # its call may have failed in another batch
            if not held:
                continue
            try:
                self._run(held)
            except Exception as error:  # noqa: BLE001  (a runtime has no error class of its own)
                log.warning("a batch of %d windows of %s failed: %s", len(held), self.model.name, error)
                HEAD_BATCHES_RETRIED.inc()
                self._part(held)

    def _part(self, batch: list[_Item]) -> None:
        """Run each clip's windows alone: a bad clip must not fail its neighbours."""
        for call in dict.fromkeys(item.call for item in batch):
            try:
                self._run([item for item in batch if item.call is call])
            except ReelserveError as error:
                call.done.set_exception(error)
            except Exception as error:
                if is_sticky(error):
                    call.done.set_exception(self._lose(error))
                    continue
                log.exception("windows of %s that were alone in a batch failed again", self.model.name)
                name = self.model.name
                failed = EngineFailed(f"the head of {name} failed on this clip, twice; the log has the reason")
                failed.__cause__ = error
                call.done.set_exception(failed)

    def _lose(self, error: Exception) -> EngineLost:
        failure = EngineLost(
            f"the device of the head of {self.model.name} is lost ({error}); this process ends, another takes its "
            "place; try again"
        )
        if self._failure is None:
            self._failure = failure
            log.critical("%s", failure.detail)
            self._lost(failure)
        return failure

    def _run(self, batch: list[_Item]) -> None:
        windows = [item.window for item in batch]
        after: Array | None = None
        if any(item.call.states is not None for item in batch):
            zeros = np.zeros(state_size(self.model), np.float32)
            before = [zeros if item.call.states is None else item.call.states[item.index] for item in batch]
            scores, after = self._head.step(windows, np.stack(before))
        else:
            scores = self._head.scores(windows)
        lengths = [len(window) for window in windows]
        rows = lengths if self.model.task == "frame" else [1] * len(batch)
        ticks = sum(lengths)
        self._observe(HeadBatch(len(batch), ticks, len(batch) * max(lengths) - ticks))
        parts = np.split(scores, np.cumsum(rows)[:-1])
        for row, (item, part) in enumerate(zip(batch, parts, strict=True)):
            item.call.take(item.index, part, None if after is None else after[row])
