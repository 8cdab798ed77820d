"""The batch sizes of an encoder: few, warmed up, and timed, so that the best one is a matter of measurement."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.bundle import Runtime
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
    """Seconds that a batch takes, warm, by its size in frames."""

    seconds: Mapping[int, float]

    @classmethod
    def timed(cls, encoders: Sequence[Encoder], sizes: Sequence[int]) -> BatchSizes:
        """Run each size on all encoders at once, and keep its best time: alone each would have the whole cache.

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
        return cls({size: max(time[size] for time in times) for size in sizes})

    @property
    def largest(self) -> int:
        """Frames of the largest batch."""
        return max(self.seconds)

    @property
    def frame_seconds(self) -> float:
        """Of one frame, in full batches of the quickest size."""
        return min(seconds / size for size, seconds in self.seconds.items())

    def __str__(self) -> str:
        return ", ".join(f"{size}: {seconds * 1e3:.1f}" for size, seconds in self.seconds.items())

    def best(self, waiting: int) -> int:
        """The size that encodes most frames a second when so many wait (>= 1); it may be larger than their number.

        On a GPU three frames go as four, for the time is the same; on a CPU they go as two, and one stays.
        """
        rates = {size: min(size, waiting) / seconds for size, seconds in self.seconds.items()}
        good = max(rates.values()) * (1.0 - _TIE)
        fast = [size for size, rate in rates.items() if rate >= good]
        return max((size for size in fast if size <= waiting), default=min(fast))  # no padding for a tie

    def at_least(self, frames: int) -> int:
        """The smallest size with room for so many frames."""
        return min(size for size in self.seconds if size >= frames)

    def within(self, seconds: float) -> int:
        """The largest size that takes no longer; at least the smallest."""
        fitting = [size for size, needed in self.seconds.items() if needed <= seconds]
        return max(fitting, default=min(self.seconds))


def _time(encoder: Encoder, size: int, together: threading.Barrier) -> float:
    together.wait()
    started = time.perf_counter()
    encoder.run(size)
    return time.perf_counter() - started
