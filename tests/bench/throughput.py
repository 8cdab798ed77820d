"""Clips a second with 16 clients and real short clips: ours, the limit, and each peer; figure 1.

All servers are up, one is loaded at a time, in slices that alternate; ratios are within rounds. A clip here is one of
average length: work is counted in ticks. Ours run with `feature_cache_bytes=0`, as the generator repeats clips.
Run: `python -m tests.bench throughput [--sides NAME,...] [--rounds N] [--seconds S]`.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from service.settings import available_cores
from tests.bench.contest import Measure, Spread, all_up, closed_slice, edge_seconds, in_rounds, pair_ratios
from tests.bench.limit import ONNX, OPENVINO, OPENVINO_BF16, AllCores, Cost, Limit, result_of
from tests.bench.limit import Result as LimitResult
from tests.bench.load import Clip, clips_of, in_passes
from tests.bench.report import finish, parser
from tests.bench.sides import OURS, STANDARD, Side, chosen, peer_versions
from tests.bench.summary import outcomes

_MOST_EDGE_SECONDS = 30.0
_LIMITS = {"reelserve-openvino": OPENVINO, "reelserve-openvino-bf16": OPENVINO_BF16}


@dataclass(frozen=True)
class SideResult:
    """One server's. clips_per_second: of average clips. ours_over_it: pair ratios of the first of our sides to it.
    of_all_cores: pair ratios to the limit's loop on all cores at the same time.

    generator_cpu_share: of one core, the worst slice's; what the load generator took from the server.
    """

    name: str
    clips_per_second: Spread
    limit: str
    of_limit: Spread
    of_all_cores: Spread
    ours_over_it: Spread
    peak_memory_bytes: int
    generator_cpu_share: float
    outcomes: dict[str, int]


@dataclass(frozen=True)
class Results:
    """Of a whole run. ticks_per_clip: the mean over the clips sent."""

    concurrency: int
    num_clips: int
    ticks_per_clip: float
    sides: list[SideResult]
    limits: list[LimitResult]
    peer_versions: dict[str, dict[str, str]]


class Contender:
    """A side and what its slices found."""

    def __init__(self, side: Side, clips: list[Clip], ticks: dict[str, int], concurrency: int, seconds: float) -> None:
        self.side = side
        self._clips, self._ticks, self._concurrency, self._seconds = clips, ticks, concurrency, seconds
        self._edge = edge_seconds(side, clips[:4], ticks, concurrency, min(_MOST_EDGE_SECONDS, 2 * seconds))
        self.peak_bytes = 0
        self.generator_share = 0.0
        self.outcomes: Counter[str] = Counter()

    def measure(self, number: int) -> float:
        """Average clips a second of one slice; the same clips for every side of a round."""
        done = closed_slice(
            self.side, self._clips, self._ticks,
            concurrency=self._concurrency, edge=self._edge, seconds=self._seconds, seed=number,
        )  # fmt: skip
        self.peak_bytes = max(self.peak_bytes, done.peak_bytes)
        self.generator_share = max(self.generator_share, done.run.cpu_share)
        self.outcomes.update(outcomes(done.run.answers))
        return done.ticks_per_second / statistics.mean(self._ticks.values())


class LimitRuns:
    """A limit and its slices."""

    def __init__(self, limit: Limit, clips: list[Clip], ticks_per_clip: float, seconds: float) -> None:
        self._limit, self._clips, self._ticks_per_clip, self._seconds = limit, clips, ticks_per_clip, seconds
        self.costs: list[Cost] = []

    def measure(self, number: int) -> float:
        """Average clips a second."""
        self.costs.append(self._limit.measure(in_passes(self._clips, number), self._seconds))
        return self.costs[-1].ticks_per_second(available_cores()) / self._ticks_per_clip

    def result(self) -> LimitResult:
        """Over all slices."""
        return result_of(self._limit.runtime, Cost.sum(self.costs))


class AllCoresRuns:
    """A limit on all cores at once."""

    def __init__(self, loops: AllCores, clips: list[Clip], ticks_per_clip: float, seconds: float) -> None:
        self._loops, self._ticks_per_clip, self._seconds = loops, ticks_per_clip, seconds
        self._clips = clips

    def measure(self, number: int) -> float:
        """Average clips a second."""
        clips = itertools.islice(in_passes(self._clips, number), len(self._clips))
        return self._loops.ticks_per_second([clip.path for clip in clips], self._seconds) / self._ticks_per_clip


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, write JSON."""
    flags = parser("throughput", __doc__)
    flags.add_argument("--sides")
    flags.add_argument("--rounds", type=int, default=8)
    flags.add_argument("--seconds", type=float, default=12, help="measured part of a slice")
    flags.add_argument("--concurrency", type=int, default=16)
    flags.add_argument("--clips", type=int, default=64)
    flags.add_argument("--eager-every", type=int, default=4, help="eager peers, far slower, join each so many rounds")
    flags.add_argument("--name", default="throughput", help="of the JSON")
    options = flags.parse_args(arguments)
    names = chosen(
        options.sides, [name for name in STANDARD if not name.endswith("-eager")] if options.quick else STANDARD
    )
    rounds, seconds = (1, 2.0) if options.quick else (options.rounds, options.seconds)
    clips = clips_of(options.data, options.seed, options.clips)
    limits = {runtime: Limit(runtime) for runtime in dict.fromkeys([ONNX, *(_limit_of(name) for name in names)])}
    ticks = {clip.name: limits[ONNX].ticks(clip) for clip in clips}
    per_clip = statistics.mean(ticks.values())
    with ExitStack() as stack:
        sides = stack.enter_context(all_up(names, clips, limits[ONNX]))
        together = {name: stack.enter_context(AllCores(name, available_cores())) for name in limits}
        contenders = {side.name: Contender(side, clips, ticks, options.concurrency, seconds) for side in sides}
        limit_runs = {name: LimitRuns(limit, clips, per_clip, seconds / 2) for name, limit in limits.items()}
        all_cores = {_together(name): AllCoresRuns(one, clips, per_clip, seconds) for name, one in together.items()}
        measures: dict[str, Measure] = {
            name: one.measure for name, one in (contenders | limit_runs | all_cores).items()
        }
        every = {name: options.eager_every for name in names if name.endswith("-eager")}
        rates = in_rounds(measures, rounds, every)
    ours = _ours(names)
    results = Results(
        options.concurrency, len(clips), per_clip,
        [_result(contenders[name], rates, ours) for name in names],
        [runs.result() for runs in limit_runs.values()], peer_versions(),
    )  # fmt: skip
    show(results)
    finish(options.name, results, options)


def _ours(names: Sequence[str]) -> str:
    """What the others are held against."""
    return next((name for name in names if name in OURS), names[0])


def _limit_of(name: str) -> str:
    return _LIMITS.get(name, ONNX)


def _together(limit: str) -> str:
    return f"{limit}, all cores at once"


def _result(contender: Contender, rates: dict[str, dict[int, float]], ours: str) -> SideResult:
    name = contender.side.name
    return SideResult(
        name, Spread.of(list(rates[name].values())), _limit_of(name),
        pair_ratios(rates[name], rates[_limit_of(name)]), pair_ratios(rates[name], rates[_together(_limit_of(name))]),
        pair_ratios(rates[ours], rates[name]),
        contender.peak_bytes, round(contender.generator_share, 4), dict(contender.outcomes),
    )  # fmt: skip


def show(results: Results, console: Console | None = None) -> None:
    """The table."""
    ours = _ours([side.name for side in results.sides])
    table = Table(
        title=f"{results.concurrency} clients, clips of {results.ticks_per_clip:.1f} ticks; median [quartiles]"
    )
    for heading in (
        "side",
        "clips/s",
        "÷ limit",
        "÷ it on all cores",
        f"{ours} ÷ it",
        "peak memory",
        "generator",
        "answers",
    ):
        table.add_column(heading, justify="left" if heading == "side" else "right")
    for side in results.sides:
        table.add_row(
            side.name, str(side.clips_per_second), str(side.of_limit), str(side.of_all_cores), str(side.ours_over_it),
            f"{side.peak_memory_bytes / 1e6:.0f} MB", f"{side.generator_cpu_share:.1%}",
            ", ".join(f"{count} × {outcome}" for outcome, count in side.outcomes.items()),
        )  # fmt: skip
    for limit in results.limits:
        table.add_row(f"limit {limit.runtime}", f"{limit.clips_per_second:.2f}", "", "", "", "", "", "")
    (console or Console(width=160)).print(table)
