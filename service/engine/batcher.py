"""The frame batcher: frames of many clips fill one encoder batch, without padding and without a timer.

Clips hand in chunks; whoever has a free session takes the oldest frames, up to `max_batch_frames`, whichever
clip they are of, runs the encoder and scatters the features back. Idle: a frame is dispatched at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Features (N, D) float32 of one chunk, and what they cost: its wait and its share of encoder time."""

    features: Features
    queue_seconds: float
    encode_seconds: float


@dataclass(eq=False)
class _Chunk:
    frames: Frames
    features: Features
    future: Future[Encoded] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    taken: int = 0
    done: int = 0
    queue_seconds: float = 0.0
    encode_seconds: float = 0.0


@dataclass(frozen=True)
class _Part:
    """Rows [start, stop) of one chunk, in one batch."""

    chunk: _Chunk
    start: int
    stop: int


class FrameBatcher:
    """Bounded, first come first served by frames; one thread for each encoder session.

    encoders: functions uint8 (N, H, W, 3) → float32 (N, feature_size), one a thread.
    observe: called with the number of frames of each batch.
    """

    def __init__(
        self,
        encoders: Sequence[Callable[[Frames], Features]],
        feature_size: int,
        *,
        max_batch_frames: int,
        max_queue_frames: int,
        observe: Callable[[int], None] = lambda frames: None,
    ) -> None:
        self.feature_size = feature_size
        self.max_batch_frames = max_batch_frames
        self.max_queue_frames = max_queue_frames
        self._observe = observe
        self._changed = threading.Condition()
        self._chunks: deque[_Chunk] = deque()
        self._waiting_frames = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(encoder,), name=f"encoder-{i}", daemon=True)
            for i, encoder in enumerate(encoders)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, frames: Frames) -> Future[Encoded]:
        """Queue a chunk (N, H, W, 3), N >= 1; waits while the queue is full. The batcher reads, never writes it."""
        chunk = _Chunk(frames, np.empty((len(frames), self.feature_size), np.float32))
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(len(frames)))
            if self._closed:
                raise RuntimeError("the frame batcher is closed")
            self._chunks.append(chunk)
            self._waiting_frames += len(frames)
            self._changed.notify_all()
        return chunk.future

    def waiting_frames(self) -> int:
        """Frames handed in and not yet in a batch."""
        return self._waiting_frames

    def close(self) -> None:
        """Finish what is queued, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _fits(self, frames: int) -> bool:
        # A chunk larger than the whole queue still goes in when nothing else waits.
        return self._waiting_frames == 0 or self._waiting_frames + frames <= self.max_queue_frames

    def _take(self) -> list[_Part]:
        """The oldest waiting frames, at most a batch of them; empty when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._closed)
            parts: list[_Part] = []
            room, now = self.max_batch_frames, time.perf_counter()
            while self._chunks and room:
                chunk = self._chunks[0]
                start = chunk.taken
                chunk.taken = min(len(chunk.frames), start + room)
                chunk.queue_seconds = now - chunk.submitted
                parts.append(_Part(chunk, start, chunk.taken))
                room -= chunk.taken - start
                if chunk.taken == len(chunk.frames):
                    self._chunks.popleft()
            self._waiting_frames -= self.max_batch_frames - room
            self._changed.notify_all()
            return parts

    def _serve(self, encoder: Callable[[Frames], Features]) -> None:
        while parts := self._take():
            self._encode(encoder, parts)
            del parts  # or an idle thread would keep the frames of its last batch

    def _encode(self, encoder: Callable[[Frames], Features], parts: list[_Part]) -> None:
        try:
            self._run(encoder, parts)
        except Exception as batch_error:  # noqa: BLE001  (whatever a runtime raises must reach the clips)
            if len(parts) == 1:
                self._fail(parts[0], batch_error)
                return
            for part in parts:  # a bad clip must not fail its neighbours: each once alone
                try:
                    self._run(encoder, [part])
                except Exception as error:  # noqa: BLE001
                    self._fail(part, error)

    def _run(self, encoder: Callable[[Frames], Features], parts: list[_Part]) -> None:
        pieces = [part.chunk.frames[part.start : part.stop] for part in parts]
        batch = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        started = time.perf_counter()
        features = encoder(batch)
        seconds = time.perf_counter() - started
        self._observe(len(batch))
        at = 0
        for part in parts:
            rows = part.stop - part.start
            part.chunk.features[part.start : part.stop] = features[at : at + rows]
            at += rows
            self._finish(part, seconds * rows / len(batch))

    def _finish(self, part: _Part, encode_seconds: float) -> None:
        chunk = part.chunk
        with self._changed:  # two sessions may hold parts of one chunk
            chunk.done += part.stop - part.start
            chunk.encode_seconds += encode_seconds
            complete = chunk.done == len(chunk.frames) and not chunk.future.done()
        if complete:
            chunk.future.set_result(Encoded(chunk.features, chunk.queue_seconds, chunk.encode_seconds))

    def _fail(self, part: _Part, error: Exception) -> None:
        with self._changed:
            if part.chunk.future.done():
                return
            if part.chunk in self._chunks:
                self._chunks.remove(part.chunk)
                self._waiting_frames -= len(part.chunk.frames) - part.chunk.taken
                self._changed.notify_all()
            part.chunk.future.set_exception(error)
