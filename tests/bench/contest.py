"""What throughput and latency share: all sides up at once, checked to answer alike, loaded one at a time."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType

import numpy as np

from tests.bench.limit import Limit
from tests.bench.load import Answer, Clip, Run, closed_loop, run
from tests.bench.sides import Side, running, scores
from tests.bench.summary import answered, only_ok

# Scores of two engines in float32 differ by rounding; bf16 has 8 bits, and what it may lose its certificate says.
TOLERANCE, BF16_TOLERANCE = 1e-3, 0.1
_CHECKED_CLIPS = 4
_MEMORY_EVERY_SECONDS = 1.0


@contextmanager
def all_up(names: Sequence[str], clips: Sequence[Clip], limit: Limit) -> Iterator[list[Side]]:
    """Start every side and hold its answers against the limit's own; RuntimeError where one differs.

    Each is paused until a slice wakes it.
    """
    with tempfile.TemporaryDirectory(prefix="reelserve-bench-") as folder, ExitStack() as stack:
        sides = []
        for name in names:
            side = stack.enter_context(running(name, Path(folder) / name))
            check_answers(side, clips[:_CHECKED_CLIPS], limit)
            print(f"{name}: ready, its answers agree", flush=True)
            stack.callback(side.resume)  # a paused process does not heed SIGTERM
            side.pause()
            sides.append(side)
        yield sides


def check_answers(side: Side, clips: Sequence[Clip], limit: Limit) -> None:
    """RuntimeError unless the best labels' scores are the limit's within the tolerance."""
    tolerance = BF16_TOLERANCE if side.name.endswith("bf16") else TOLERANCE
    for answer, clip in zip(warm_up(side, clips).answers, cycle(clips), strict=False):
        difference = disagreement(scores(answer), limit.scores(clip))
        if difference > tolerance:
            raise RuntimeError(
                f"{side.name} and the limit differ by {difference:.2g} on {clip.name}, over {tolerance:g}: "
                f"{scores(answer)} and {limit.scores(clip)}"
            )


def disagreement(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Largest difference of a label's score; one that is not among the best counts as the least of them."""
    lists = (one, other)
    return max(
        abs(one.get(label, min(one.values())) - other.get(label, min(other.values())))
        for label in {label for scored in lists for label in scored}
    )


def warm_up(side: Side, clips: Sequence[Clip], passes: int = 2) -> Run:
    """One client sends each clip, in order, so many times; each must be answered."""
    wanted = len(clips) * passes

    async def load() -> list[Answer]:
        order = lambda clips, _: islice(cycle(clips), wanted)  # noqa: E731
        return await closed_loop(side.target, side.clips(clips), concurrency=1, seconds=1e9, seed=0, choose=order)

    done = run(load())
    only_ok(done.answers, side.name)
    return done


def work_rate(answers: Iterable[Answer], ticks: Mapping[str, int], start: float, stop: float) -> float:
    """Ticks of work done a second in [start, stop), times of `time.perf_counter`.

    Each good answer counts with the share of its time in flight that lies inside: whole answers alone would add or
    lose up to one clip a client at each edge, a fifth of a short slice.
    """
    done = sum(
        ticks[answer.clip] * max(0.0, min(answer.ended, stop) - max(answer.started, start)) / answer.seconds
        for answer in answered(answers)
    )
    return done / (stop - start)


class PeakMemory:
    """Samples a side's memory once a second while the block runs, but not in what is measured: that takes CPU too."""

    def __init__(self, side: Side, edge: float, seconds: float) -> None:
        self._side = side
        self._measured = (time.perf_counter() + edge, time.perf_counter() + edge + seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak_bytes = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        start, stop = self._measured
        while not self._stop.wait(_MEMORY_EVERY_SECONDS):
            if not start - _MEMORY_EVERY_SECONDS < time.perf_counter() < stop:
                self.peak_bytes = max(self.peak_bytes, self._side.memory_bytes())


@dataclass(frozen=True)
class Slice:
    """A closed loop's. ticks_per_second: of the middle, while all clients were busy."""

    ticks_per_second: float
    run: Run
    peak_bytes: int


def closed_slice(
    side: Side,
    clips: Sequence[Clip],
    ticks: Mapping[str, int],
    *,
    concurrency: int,
    edge: float,
    seconds: float,
    seed: int,
) -> Slice:
    """Load a side and look at `seconds` in the middle; `edge` seconds before and after keep all clients busy."""
    with side.awake(), PeakMemory(side, edge, seconds) as memory:
        started = time.perf_counter()
        load = closed_loop(
            side.target, side.clips(clips), concurrency=concurrency, seconds=seconds + 2 * edge, seed=seed
        )
        done = run(load)
    return Slice(work_rate(done.answers, ticks, started + edge, started + edge + seconds), done, memory.peak_bytes)


def edge_seconds(side: Side, clips: Sequence[Clip], ticks: Mapping[str, int], concurrency: int, most: float) -> float:
    """About how long one answer takes with so many clients: a closed loop is steady after that."""
    with side.awake():
        done = warm_up(side, clips, passes=1)
    rate = work_rate(done.answers, ticks, done.answers[0].started, done.answers[-1].ended)
    return min(most, concurrency * float(np.mean([ticks[clip.name] for clip in clips])) / rate)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        low, median, high = np.percentile(values, (25, 50, 75)).tolist()
        return cls(round(median, 4), round(low, 4), round(high, 4), len(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def pair_ratios(one: Mapping[int, float], other: Mapping[int, float]) -> Spread:
    """Ratios within each round that both were in: machines drift, a ratio within a round does not."""
    return Spread.of([one[number] / other[number] for number in one if number in other])


Measure = Callable[[int], float]


def in_rounds(measures: Mapping[str, Measure], rounds: int, every: Mapping[str, int]) -> dict[str, dict[int, float]]:
    """Figures by name and round. Every second round goes backwards. every: names that join only each so many rounds."""
    found: dict[str, dict[int, float]] = {name: {} for name in measures}
    for number in range(rounds):
        names = [name for name in measures if number % every.get(name, 1) == 0]
        for name in names if number % 2 == 0 else reversed(names):
            found[name][number] = measures[name](number)
            print(f"round {number + 1}/{rounds} {name}: {found[name][number]:.2f}", flush=True)
    return found
