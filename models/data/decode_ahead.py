"""The next clips are decoded while the current one is computed on: by the pool of serving, with bounded memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Full, Queue

from service.errors import ReelserveError, RequestError
from service.video.chunk import FrameChunk
from service.video.errors import VideoError
from service.video.pool import DecodePool
from service.video.report import DecodeReport
from service.video.spec import ClipSpec

# What a file is to blame for. All else (a decoder killed from outside, a bug) would spoil the next clip as well.
FAULTS_OF_FILES = (VideoError, RequestError, OSError)
# Decoding takes a fraction of the CNN's time; more clips at once would only hold memory.
_MOST_CLIPS = 4
# Batches of one clip that wait; with `CHUNK_FRAMES` and the pool's segments all the memory that a clip takes.
_MOST_BATCHES = 8
_POLL_SECONDS = 0.1


class _Stopped(Exception):
    """Nobody wants the clip any more."""


@dataclass(frozen=True)
class DecodingClip:
    """A clip that is being decoded."""

    path: Path
    _batches: Queue[FrameChunk | None]
    _done: Future[DecodeReport]

    def batches(self) -> Iterator[FrameChunk]:
        """Its sampled frames, uint8 RGB (N, H, W, 3); to be exhausted. Raises as `OpenVideo` does, and OSError."""
        while (batch := self._batches.get()) is not None:
            yield batch
        self._done.result()

    def report(self) -> DecodeReport:
        """What the pass met; once `batches` is exhausted."""
        return self._done.result()


@contextmanager
def decode_ahead(paths: Iterable[Path], spec: ClipSpec, batch_frames: int) -> Iterator[Iterator[DecodingClip]]:
    """The clips in order, each to be exhausted before the next; up to four are decoded at once.

    >>> with decode_ahead(paths, spec, 4) as clips:                   # doctest: +SKIP
    ...     for clip in clips:
    ...         for batch in clip.batches():
    ...             batch.frames.shape                                # (<= 4, H, W, 3)
    """
    num_clips = min(_MOST_CLIPS, os.cpu_count() or 1)
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    def put(queue: Queue[FrameChunk | None], batch: FrameChunk | None) -> None:
        while True:
            check()
            with contextlib.suppress(Full):
                queue.put(batch, timeout=_POLL_SECONDS)
                return

    def decode(path: Path, queue: Queue[FrameChunk | None]) -> DecodeReport:
        try:
            with pool.open(path, spec, check=check) as video:
                for batch in video.batches(batch_frames):
                    put(queue, batch)
                return video.report()
        finally:
            put(queue, None)

    def start(path: Path) -> DecodingClip:
        queue: Queue[FrameChunk | None] = Queue(_MOST_BATCHES)
        return DecodingClip(path, queue, threads.submit(decode, path, queue))

    def clips() -> Iterator[DecodingClip]:
        rest = iter(paths)
        ahead = deque(start(path) for path in islice(rest, num_clips))
        while ahead:
            yield ahead.popleft()
            ahead.extend(start(path) for path in islice(rest, 1))

    with DecodePool(num_credits=num_clips) as pool, ThreadPoolExecutor(num_clips, "decode") as threads:
        try:
            yield clips()
        finally:
            stopped.set()
            threads.shutdown(wait=False, cancel_futures=True)


def said(error: BaseException) -> str:
    """Why a file was not taken, in the service's words: `code: detail`."""
    if isinstance(error, ReelserveError):
        return f"{error.code}: {error.detail}"
    return f"unreadable: {error}"
