"""One clip's way into the frame batcher."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from service.engine.chunks import Chunk, Encoded, Frames
from service.fairness import Account

if TYPE_CHECKING:
    from service.engine.batcher import FrameBatcher


class Lease:
    """A context manager: leaving withdraws what still waits."""

    def __init__(self, batcher: FrameBatcher, account: Account) -> None:
        self.account = account
        self.chunks: deque[Chunk] = deque()
        self._batcher = batcher

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher._withdraw(self)

    def submit(self, frames: Frames, copied: Callable[[], None] = lambda: None) -> Future[Encoded]:
        """Queue a chunk (N, H, W, 3), N >= 1; returns at once: whoever submits bounds how much it hands in.

        `copied` is called once, from any thread, when the frames have been read and may be overwritten. The future
        raises EngineFailed, EngineLost, or CancelledError after the lease was left.
        """
        return self._batcher._submit(self, frames, copied)

    @property
    def num_waiting(self) -> int:
        """Frames that are in no batch yet; under the batcher's lock."""
        return sum(len(chunk.features) - chunk.num_taken for chunk in self.chunks)
