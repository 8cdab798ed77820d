"""A two-hour film in progress, and two-second clips beside it: what they notice of it, and what it still gets.

Phases alternate: clips in open loop at 30 % of capacity without the film, then with it. In the last round the film
runs to its end; in the others its client goes away when the phase is over. The film's share: encoded frames of the
phase (/metrics) less those of the clips that it answered. Run: `python -m tests.bench film [--films 3]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.beside import Beside, Phase, frames_used, latency_of
from tests.bench.cuts import film, two_seconds
from tests.bench.load import Answer, Clip, Target, send
from tests.bench.report import finish, parser
from tests.bench.summary import outcomes
from tests.bench.upload import MEGABYTE
from tests.server import Server, serve, wait_until

_NUM_CLIPS = 24
_UNDER_WAY_FRAMES = 64  # encoded of the film before a phase begins


@dataclass(frozen=True)
class FilmAnswer:
    """How a film fared that was left to its end: beside the clips of the last phase, and then alone."""

    status: int
    seconds: float
    frames_used: int
    problem: str


@dataclass(frozen=True)
class FilmResult:
    """p99 of the clips with a film ÷ without, over all phases together and by the median of the rounds."""

    films: int
    film_seconds: float
    film_bytes: int
    capacity: float
    offered: float
    without: tuple[Phase, ...]
    beside: tuple[Phase, ...]
    p50_ratio: float
    p99_ratio: float
    median_p99_ratio: float
    film_share: float
    outcomes: dict[str, int]
    answers: tuple[FilmAnswer, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.films} film(s) of {self.film_seconds / 60:.0f} min ({self.film_bytes / MEGABYTE:.0f} MB); clips at "
            f"{self.offered:.2f} a second, {self.offered / self.capacity:.2f} of {self.capacity:.2f}",
            f"  {'phase':<10}{'clips':>7}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'film share':>12}"
            f"{'peak PSS':>10}{'peak RSS MiB':>14}",
        ]
        for name, phases in (("without", self.without), ("beside", self.beside)):
            for phase in phases:
                each = phase.latency
                lines.append(
                    f"  {name:<10}{each.count:>7}{each.p50_ms:>9.1f}{each.p95_ms:>9.1f}{each.p99_ms:>9.1f}"
                    f"{phase.film_share:>12.3f}{phase.memory.peak_pss:>10.0f}{phase.memory.peak_rss:>14.0f}"
                )
        lines += [
            f"  with ÷ without  p50 {self.p50_ratio:.3f}, p99 {self.p99_ratio:.3f} (wanted <= 1.5), "
            f"median of rounds {self.median_p99_ratio:.3f}",
            f"  film's share    {self.film_share:.3f} of encoded frames; wanted >= 0.1",
            f"  clips' answers  {', '.join(f'{count} x {name}' for name, count in self.outcomes.items())}",
            *(
                f"  film            {each.status} after {each.seconds:.1f} s, {each.frames_used} frames {each.problem}"
                for each in self.answers
            ),
        ]
        return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the phases and their ratios."""
    flags = parser("film", __doc__)
    flags.add_argument("--films", type=int, default=1, help="at once")
    flags.add_argument("--film-seconds", type=float, default=7200.0)
    flags.add_argument("--seconds", type=float, default=60.0, help="of a phase")
    flags.add_argument("--rounds", type=int, default=4, help="of one phase without and one with")
    flags.add_argument("--share", type=float, default=0.3, help="of capacity, that the clips take")
    options = flags.parse_args(arguments)
    if options.quick:
        options.seconds, options.rounds, options.film_seconds = 2.0, 2, 400.0
    with tempfile.TemporaryDirectory() as folder:
        clips = two_seconds(Path(folder) / "clips", options.data, options.seed, _NUM_CLIPS)
        long = Clip.of(film(Path(folder) / "film.mp4", options.data, options.film_seconds, seed=options.seed), "film")
        with serve(Path(folder), feature_cache_bytes=0) as server:
            result = asyncio.run(_Bench(server, clips, long, options).run())
    print(result)
    finish("film" if options.films == 1 else f"film-{options.films}", result, options)


class _Bench:
    """One server, one film, one set of clips."""

    def __init__(self, server: Server, clips: list[Clip], long: Clip, options: Namespace) -> None:
        self.server = server
        self.film = long
        self.options = options
        target = Target("reelserve", server.url)
        self.beside = Beside(server, target, clips)
        self.film_target = replace(target, headers={"X-Request-Timeout": "3600"}, timeout_seconds=3600.0)

    async def run(self) -> FilmResult:
        """Capacity, then the phases."""
        seconds, seed = self.options.seconds, self.options.seed
        capacity = await self.beside.capacity(seconds, seed)
        arrivals = self.options.share * capacity
        all_without, all_beside, without, beside = [], [], [], []
        answers: list[FilmAnswer] = []
        for number in range(self.options.rounds):
            shots, phase = await self.beside.phase(arrivals, self.options.seconds, self.options.seed + number)
            all_without += shots
            without.append(phase)
            films = await self._start_films()
            shots, phase = await self.beside.phase(arrivals, self.options.seconds, self.options.seed + number)
            all_beside += shots
            beside.append(phase)
            if any(task.done() for task in films):
                raise RuntimeError("a film ended during the phase; make it longer, or the phase shorter")
            if number < self.options.rounds - 1:
                await self._leave(films)
            else:
                answers = [_film_answer(answer) for answer in await asyncio.gather(*films)]
        apart, together = (latency_of(shots) for shots in (all_without, all_beside))
        ratios = [b.latency.p99_ms / w.latency.p99_ms for w, b in zip(without, beside, strict=True)]
        return FilmResult(
            films=self.options.films,
            film_seconds=self.options.film_seconds,
            film_bytes=self.film.path.stat().st_size,
            capacity=round(capacity, 3),
            offered=round(arrivals, 3),
            without=tuple(without),
            beside=tuple(beside),
            p50_ratio=round(together.p50_ms / apart.p50_ms, 4),
            p99_ratio=round(together.p99_ms / apart.p99_ms, 4),
            median_p99_ratio=round(statistics.median(ratios), 4),
            film_share=round(statistics.median(phase.film_share for phase in beside), 4),
            outcomes=outcomes(all_without + all_beside),
            answers=tuple(answers),
        )

    async def _start_films(self) -> list[asyncio.Task[Answer]]:
        """Upload them, and come back when their frames are being encoded."""
        before = await self.beside.encoded()
        films = [asyncio.create_task(send(self.film_target, self.film)) for _ in range(self.options.films)]
        while await self.beside.encoded() < before + _UNDER_WAY_FRAMES:
            for task in films:
                if task.done():
                    raise RuntimeError(f"a film ended before it was under way: {_film_answer(task.result())}")
            await asyncio.sleep(0.1)
        return films

    async def _leave(self, films: Sequence[asyncio.Task[Answer]]) -> None:
        """Their clients go away; back when the server has let them go."""
        for task in films:
            task.cancel()
        for task in films:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(wait_until, lambda: not self.server.spooled_bytes(), "the films' spool files to go")


def _film_answer(answer: Answer) -> FilmAnswer:
    good = answer.status == 200
    problem = "" if good else answer.lost or answer.body.decode()[:200]
    return FilmAnswer(answer.status, round(answer.seconds, 2), frames_used(answer) if good else 0, problem)
