"""The batch sizes of an encoder: few, warmed up, and timed, so that the best one is a matter of measurement."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from service.bundle import Runtime
from service.engine.chunks import Features
from service.engine.sessions import Encoder

# Small batches stay in a CPU's cache and let a newcomer in soon; a GPU needs large ones to be busy. Few sizes there,
# as each new shape costs it a search for kernels, or an engine of its own.
_CPU_SIZES = (1, 2, 4)
_GPU_SIZES = (1, 4, 16, 64)
_RUNS = 6
# Two sizes whose speed differs by less are equal, and the larger is taken: it means fewer turns of Python.
_TIE = 0.03


def sizes_for(runtime: Runtime, max_frames: int | None = None) -> tuple[int, ...]:
    """Ascending, the last one `max_frames` where it is given."""
    sizes = _CPU_SIZES if runtime.endswith("-cpu") else _GPU_SIZES
    if max_frames is None:
        return sizes
    while sizes[-1] < max_frames:
        sizes = (*sizes, sizes[-1] * sizes[1])
    return (*(size for size in sizes if size < max_frames), max_frames)


@dataclass(frozen=True)
class BatchSizes:
    """Seconds that a batch takes, warm, by its size in frames.

    run_frames: a batch of more is encoded in several runs of so many, where that is quicker than one run of all: two
    cores that share a cache are quickest with one or two frames a run, and each turn of Python costs something too.
    None: a batch is one run.
    """

    seconds: Mapping[int, float]
    run_frames: int | None = None

    @classmethod
    def timed(cls, encoders: Sequence[Encoder], sizes: Sequence[int]) -> BatchSizes:
        """Run each size on all encoders at once, and keep its best time: alone each would have the whole cache.

        A size that several runs of the quickest encode sooner gets their time.

        Raises what a run raises.
        """
        together = threading.Barrier(len(encoders))

        def run(encoder: Encoder) -> dict[int, float]:
            encoder.buffer[:] = 0
            try:
                return {size: min(_time(encoder, size, together) for _ in range(_RUNS)) for size in sizes}
            except Exception:
                together.abort()  # or the others would wait for ever
                raise

        with ThreadPoolExecutor(len(encoders)) as pool:
            runs = [pool.submit(run, encoder) for encoder in encoders]
        failed = [error for done in runs if (error := done.exception())]
        for error in failed:
            if not isinstance(error, threading.BrokenBarrierError):
                raise error
        times = [done.result() for done in runs]
        one_run = cls({size: max(time[size] for time in times) for size in sizes})
        quickest = one_run.best(one_run.largest)
        seconds = {
            size: sum(one_run.seconds[one_run.at_least(num_frames)] for _, num_frames in _runs(size, quickest))
            for size in sizes
        }
        return cls(seconds, quickest)

    @property
    def largest(self) -> int:
        """Frames of the largest batch."""
        return max(self.seconds)

    @property
    def frame_seconds(self) -> float:
        """Of one frame, in full batches of the quickest size."""
        return min(seconds / size for size, seconds in self.seconds.items())

    def __str__(self) -> str:
        times = ", ".join(f"{size}: {seconds * 1e3:.1f}" for size, seconds in self.seconds.items())
        return times if self.run_frames in (None, self.largest) else f"{times}, {self.run_frames} a run"

    def best(self, waiting: int) -> int:
        """The size that encodes most frames a second when so many wait (>= 1); it may be larger than their number.

        On a GPU three frames go as four, for the time is the same; on a CPU they go as two, and one stays.
        """
        rates = {size: min(size, waiting) / seconds for size, seconds in self.seconds.items()}
        good = max(rates.values()) * (1.0 - _TIE)
        fast = [size for size, rate in rates.items() if rate >= good]
        return max((size for size in fast if size <= waiting), default=min(fast))  # no padding for a tie

    def encode(self, encoder: Encoder, num_frames: int) -> tuple[Features, float]:
        """Features (num_frames, D) of the encoder's buffer, and the seconds they took. Raises what a run raises."""
        started = time.perf_counter()
        runs = [encoder.run(size, at) for at, size in _runs(num_frames, self.run_frames or num_frames)]
        features = runs[0] if len(runs) == 1 else np.concatenate(runs)
        return features, time.perf_counter() - started

    def at_least(self, frames: int) -> int:
        """The smallest size with room for so many frames."""
        return min(size for size in self.seconds if size >= frames)

    def within(self, seconds: float) -> int:
        """The largest size that takes no longer; at least the smallest."""
        fitting = [size for size, needed in self.seconds.items() if needed <= seconds]
        return max(fitting, default=min(self.seconds))


def _runs(num_frames: int, run_frames: int) -> list[tuple[int, int]]:
    """Where each run begins, and its frames."""
    return [(at, min(run_frames, num_frames - at)) for at in range(0, num_frames, run_frames)]


def _time(encoder: Encoder, size: int, together: threading.Barrier) -> float:
    together.wait()
    started = time.perf_counter()
    encoder.run(size)
    return time.perf_counter() - started
