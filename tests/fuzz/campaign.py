"""Many mutants through one pool, on a few threads, and the figures of it."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from service.video.pool import DecodePool
from tests.fuzz.holdings import Holdings
from tests.fuzz.mutate import Mutant, mutant
from tests.fuzz.sources import Source
from tests.fuzz.trial import LIMITS, Trial, attempt, decode, written

# Every so many mutants one is decoded twice, and one is probed.
_TWICE_EVERY, _PROBE_EVERY = 7, 10
_DECODING = 2


@dataclass
class Figures:
    """What came of it, with the mutants that others will ask for.

    examples: the first one's number for each answer. ended: those that crashed their process or met its limits.
    """

    files: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)
    probes: Counter[str] = field(default_factory=Counter)
    decoded_twice: int = 0
    slowest_seconds: float = 0.0
    slowest: int = 0
    zygote_megabytes: tuple[float, float] = (0.0, 0.0)
    ended: list[tuple[Mutant, str]] = field(default_factory=list)
    troubles: list[tuple[Mutant, str]] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether something happened that no file may cause; a crash of its own decoder it may."""
        return bool(self.troubles or self.leaks)

    def add(self, broken: Mutant, trial: Trial) -> None:
        """Count one more."""
        self.files += 1
        self.answers[trial.answer.result] += 1
        self.examples.setdefault(trial.answer.result, broken.number)
        if trial.probe:
            self.probes[trial.probe] += 1
        self.decoded_twice += _is_decoded_twice(broken)
        if trial.seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = trial.seconds, broken.number
        if trial.answer.ended_the_process:
            self.ended.append((broken, trial.answer.detail))
        self.troubles += [(broken, trouble) for trouble in trial.troubles]


def fuzz(
    numbers: Sequence[int],
    seed: int,
    corpus: Sequence[Source],
    *,
    workers: int = 2,
    each: Callable[[Mutant, Trial], None] = lambda _mutant, _trial: None,
) -> Figures:
    """Decode these mutants; `each` hears of every one, in order."""
    figures = Figures()
    with _temporary() as folder, DecodePool(num_credits=_DECODING, limits=LIMITS) as pool:
        healthy = max(corpus, key=lambda source: (source.name == "h264-b-mp4", source.name))
        with written(folder, "healthy", healthy.data) as path:
            first = decode(pool, path)
        before, megabytes = Holdings.of(pool, folder), _megabytes(pool)

        def work(number: int) -> tuple[Mutant, Trial]:
            broken = mutant(seed, number, corpus)
            again, probe = _is_decoded_twice(broken), number % _PROBE_EVERY == 0
            with written(folder, f"mutant-{number}", broken.data) as path:
                return broken, attempt(pool, path, again=again, probe=probe)

        with ThreadPoolExecutor(workers) as threads:
            for broken, trial in threads.map(work, numbers):
                figures.add(broken, trial)
                each(broken, trial)
        figures.leaks = before.leaks(pool, folder)
        figures.zygote_megabytes = (megabytes, _megabytes(pool))
        with written(folder, "healthy", healthy.data) as path:
            if decode(pool, path) != first:
                figures.leaks.append("a healthy clip is decoded otherwise than before")
    return figures


def _is_decoded_twice(broken: Mutant) -> bool:
    return broken.number % _TWICE_EVERY == 0


@contextmanager
def _temporary() -> Iterator[Path]:
    """A folder of our own for files, and for whatever the pool's processes call temporary."""
    was = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("TMPDIR")
            if was is not None:
                os.environ["TMPDIR"] = was


def _megabytes(pool: DecodePool) -> float:
    resident: int = psutil.Process(pool.zygote.pid).memory_info().rss
    return resident / 1e6
