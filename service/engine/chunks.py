"""Chunks of clips, and the parts of them that make a batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.fairness import Priority

if TYPE_CHECKING:
    from service.engine.lease import Lease

Frames = NDArray[np.uint8]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Features (N, D) float32 of one chunk, and what they cost.

    submitted, taken: `time.perf_counter()` when it came and when its last frames went into a batch. encode_seconds: its
    share of executors' time, all of them added up.
    """

    features: Features
    submitted: float
    taken: float
    encode_seconds: float


@dataclass(eq=False)
class Chunk:
    """Frames (N, H, W, 3) of one clip, and how far they are: taken into batches, copied, done; then settled."""

    lease: Lease
    frames: Frames
    features: Features
    copied: Callable[[], None]
    future: Future[Encoded] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    settled: bool = False
    num_taken: int = 0
    num_copied: int = 0
    num_done: int = 0
    taken: float = 0.0
    encode_seconds: float = 0.0


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of one chunk, in a batch from row `at` on."""

    chunk: Chunk
    start: int
    stop: int
    at: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(frozen=True)
class Batch:
    """What an executor runs: `size` rows, of which the parts fill the first."""

    parts: list[Part]
    size: int

    @property
    def num_frames(self) -> int:
        """Rows that hold a frame."""
        return sum(part.rows for part in self.parts)

    @property
    def is_of_jobs(self) -> bool:
        """Whether nobody else has a frame in it."""
        return all(part.chunk.lease.account.priority is Priority.JOB for part in self.parts)
