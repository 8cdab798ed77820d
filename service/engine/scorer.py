"""A clip's features to its scores, as the frames arrive: windows, or a whole clip piece by piece."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from service.bundle import ModelDocument
from service.engine.clip_scores import ClipScores, TickScores, WindowScores
from service.engine.heads import Array, Scoring, state_size
from service.video.errors import TooManyFrames
from service.video.spec import ClipSpec
from service.video.windows import Window, cover

# Features (D = 1280) of 8192 ticks are 42 MB, and the runtime holds two or three copies of them while it runs.
MAX_HEAD_TICKS = 8192
# A whole clip's state is carried from piece to piece: at every 256th tick, however the ticks arrive.
PIECE_TICKS = 256
# Of one call of the head; more make a window no cheaper (measured: 57 µs in batches of 8 as of 32).
_BATCH_WINDOWS, _BATCH_TICKS = 32, 1024


class WindowScorer:
    """Scores a clip's windows as soon as their ticks are there, and keeps no feature that no window needs any more.

    head: a `Head`, or a `HeadBatcher` that runs it for many clips. spec: with the request's window and stride, in
    place of the model's own. Equal to cutting the whole clip by `service.video.windows.cover`. Features in memory
    don't grow with the clip: a window over the whole clip is read in pieces by a head that carries its state; one
    that has none (bidirectional) gets at most MAX_HEAD_TICKS, then push raises TooManyFrames.
    """

    def __init__(self, head: Scoring, spec: ClipSpec | None = None) -> None:
        self._spec = spec or head.model.spec
        self._held = _Held()
        self._scores: ClipScores | None = None
        gathered = TickScores() if head.model.task == "frame" else WindowScores()
        self._gathered: _Gathered = gathered
        self._reader: _Reader
        if self._spec.window_frames is not None and self._spec.stride_frames is not None:
            self._reader = _Windows(head, self._held, gathered, self._spec.window_frames, self._spec.stride_frames)
        elif head.model.state:
            self._reader = _Pieces(head, self._held, gathered)
        else:
            self._reader = _Whole(head, self._held, gathered, self._spec)

    @property
    def num_ticks(self) -> int:
        """Ticks pushed so far."""
        return self._held.stop

    @property
    def num_held(self) -> int:
        """Ticks whose features are in memory."""
        return self._held.stop - self._held.start

    def push(self, features: Array) -> None:
        """The next ticks' features (n, D)."""
        if self._scores is not None:
            raise RuntimeError("the clip's scores were asked for; it takes no more ticks")
        for at in range(0, len(features), PIECE_TICKS):
            self._held.append(features[at : at + PIECE_TICKS])
            self._reader.read()

    def finish(self) -> ClipScores:
        """Scores of all the ticks pushed; needs at least one."""
        if self._scores is None:
            windows = cover(self.num_ticks, self._spec)
            self._reader.finish(windows)
            self._scores = self._gathered.of_clip(self.num_ticks, windows, self._spec)
        return self._scores


_Gathered = WindowScores | TickScores


class _Held:
    """The latest ticks' features [start, stop) in one array: each is copied once as it comes, and rarely again."""

    def __init__(self) -> None:
        self.start = self.stop = 0
        self._rows = np.empty((0, 0), np.float32)
        self._first = 0  # the row that holds tick `start`

    def append(self, features: Array) -> None:
        kept, count = self.stop - self.start, len(features)
        if self._first + kept + count > len(self._rows):
            rows = self._rows
            if len(rows) < 2 * (kept + count):  # doubled, so that the rows to be moved were copied as often at most
                rows = np.empty((2 * (kept + count), features.shape[1]), np.float32)
            if kept:
                rows[:kept] = self._rows[self._first : self._first + kept]
            self._rows, self._first = rows, 0
        end = self._first + kept
        self._rows[end : end + count] = features
        self.stop += count

    def between(self, start: int, stop: int) -> Array:
        """Features of ticks [start, stop): a view, until the next call of `append`."""
        first = self._first + start - self.start
        return self._rows[first : first + stop - start]

    def drop_before(self, tick: int) -> None:
        if tick > self.start:
            self._first += tick - self.start
            self.start = tick


class _Reader(Protocol):
    """One way to read a clip: what is ready is scored and gathered, what nobody needs any more is dropped."""

    def read(self) -> None: ...

    def finish(self, windows: list[Window]) -> None: ...


class _Windows:
    """Windows of a fixed length: each as soon as its last tick is there."""

    def __init__(self, head: Scoring, held: _Held, gathered: _Gathered, window: int, stride: int) -> None:
        self._head, self._held, self._gathered = head, held, gathered
        self._window, self._stride = window, stride
        self._num_read = 0
        self._batch = max(1, min(_BATCH_WINDOWS, _BATCH_TICKS // window))

    def read(self) -> None:
        first = self._num_read * self._stride
        starts = range(first, self._held.stop - self._window + 1, self._stride)
        self._score([Window(start, self._window) for start in starts])
        self._held.drop_before(
            self._held.stop - self._window
        )  # the next starts later; a last one is anchored at the end

    def finish(self, windows: list[Window]) -> None:
        self._score(windows[self._num_read :])

    def _score(self, windows: list[Window]) -> None:
        for at in range(0, len(windows), self._batch):
            part = windows[at : at + self._batch]
            self._gathered.add(part, self._head.scores([self._held.between(w.start, w.stop) for w in part]))
        self._num_read += len(windows)


class _Pieces:
    """A whole clip, by a head that carries its state: nothing of a piece is kept but the state after it."""

    def __init__(self, head: Scoring, held: _Held, gathered: _Gathered) -> None:
        self._head, self._held, self._gathered = head, held, gathered
        self._state: Array = np.zeros((1, state_size(head.model)), np.float32)
        self._clip_scores: Array | None = None

    def read(self) -> None:
        while self._held.stop - self._held.start >= PIECE_TICKS:
            self._step(self._held.start + PIECE_TICKS)

    def finish(self, windows: list[Window]) -> None:
        if self._held.stop > self._held.start:
            self._step(self._held.stop)
        if self._clip_scores is not None:
            self._gathered.add(windows, self._clip_scores)

    def _step(self, stop: int) -> None:
        piece = Window(self._held.start, stop - self._held.start)
        scores, self._state = self._head.step([self._held.between(piece.start, piece.stop)], self._state)
        self._held.drop_before(stop)
        if self._head.model.task == "frame":
            self._gathered.add([piece], scores)
        else:
            self._clip_scores = scores  # of all ticks so far


class _Whole:
    """A whole clip, by a head that must know its end first: all features are kept."""

    def __init__(self, head: Scoring, held: _Held, gathered: _Gathered, spec: ClipSpec) -> None:
        self._head, self._held, self._gathered, self._spec = head, held, gathered, spec

    def read(self) -> None:
        if self._held.stop > MAX_HEAD_TICKS:
            raise _too_many_ticks(self._held.stop, self._head.model, self._spec)

    def finish(self, windows: list[Window]) -> None:
        self._gathered.add(windows, self._head.scores([self._held.between(0, self._held.stop)]))


def _too_many_ticks(num_ticks: int, model: ModelDocument, spec: ClipSpec) -> TooManyFrames:
    fps = spec.sample_fps
    rate, length = (f" at {fps:g} per second", f" ({MAX_HEAD_TICKS / fps:g} s)") if fps else ("", "")
    return TooManyFrames(
        f"{model.name} must have a clip whole before it answers, and has at least {num_ticks} frames of this "
        f"one{rate}; the limit is {MAX_HEAD_TICKS}{length}: shorten it by start_seconds and end_seconds, or give a "
        "window",
        value=num_ticks,
        limit=MAX_HEAD_TICKS,
    )
