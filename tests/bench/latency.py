"""Open loop, Poisson arrivals: latency against load for each server, and short clips among two-minute ones; figure 2.

1. Each server at fractions of its own capacity, as a closed loop measures it: table, plot.
2. Short clips with some two-minute ones among them, at 70 % of *our* capacity and of each one's own: p50, p95 and p99
   of the short ones. Work is counted in ticks, so the mix's rate follows from the capacity with short clips. A server
   whose own capacity is below the rate is not run: its queue would only grow.

Latency counts from the scheduled arrival; a request that fails never came, and counts as the longest.
Run: `python -m tests.bench latency [--sides NAME,...] [--fractions F,...] [--seconds S] [--mix-seconds S]`.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.contest import all_up, closed_slice, edge_seconds
from tests.bench.limit import Limit
from tests.bench.load import Answer, Clip, clips_of, open_loop, run
from tests.bench.report import RESULTS, finish, parser
from tests.bench.sides import OURS, STANDARD, Side, chosen, peer_versions
from tests.bench.summary import OK, outcomes
from tests.long_clips import loop

_TIMEOUT_SECONDS = 120.0
_LONG_SECONDS = 120
_NUM_LONG = 3
_MIX_FRACTION = 0.7
_NEAR_CAPACITY = 0.95


@dataclass(frozen=True)
class Waits:
    """Latencies from the scheduled arrival, milliseconds; None: there are none, or the quantile is one that failed."""

    count: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Waits:
        """A quantile is the smallest latency that at least so many of the requests don't exceed."""
        waits = sorted(answer.latency_seconds if answer.status == OK else math.inf for answer in answers)
        failed = sum(math.isinf(wait) for wait in waits)
        return cls(len(waits), failed, *(_quantile_ms(waits, share) for share in (0.5, 0.95, 0.99)))

    def __str__(self) -> str:
        if not self.count:
            return "none"
        shown = " / ".join(
            "never" if wait is None else f"{wait:.0f}" for wait in (self.p50_ms, self.p95_ms, self.p99_ms)
        )
        return f"{shown}" + (f", {self.failed} of {self.count} failed" if self.failed else "")


def _quantile_ms(waits: Sequence[float], share: float) -> float | None:
    if not waits:
        return None
    wait = waits[max(0, math.ceil(share * len(waits)) - 1)]
    return None if math.isinf(wait) else round(wait * 1e3, 1)


@dataclass(frozen=True)
class Point:
    """One run. fraction: of `of`'s capacity. late_ms: the generator's own worst delay in sending, inside the waits."""

    side: str
    fraction: float
    of: str
    rate: float
    short: Waits
    long: Waits | None
    late_ms: float
    generator_cpu_share: float
    outcomes: dict[str, int]


@dataclass(frozen=True)
class Results:
    """capacities: clips of `ticks_per_clip` a second, closed loop. too_slow: not run, their capacity is below the rate.

    p99_over_best_peer: of the short clips in the mix at 70 % of our capacity, ours ÷ the least of the peers'.
    """

    ticks_per_clip: float
    capacities: dict[str, float]
    curve: list[Point]
    mix: list[Point]
    too_slow: list[str]
    long_share: float
    long_ticks: float
    p99_over_best_peer: float | None
    peer_versions: dict[str, dict[str, str]]


def long_clips(folder: Path, clips: Sequence[Clip]) -> list[Clip]:
    """Two-minute videos: the packets of short real clips over and over."""
    return [Clip.of(loop(clip.path, folder / f"long-{clip.name}", _LONG_SECONDS), "long") for clip in clips[:_NUM_LONG]]


class Field:
    """The servers that are up, what they can do, and the clips."""

    def __init__(self, sides: Sequence[Side], short: list[Clip], long: list[Clip], ticks: Mapping[str, int]) -> None:
        self.sides = {side.name: side for side in sides}
        self.short, self.long, self.ticks = short, long, ticks
        self.ticks_per_clip = statistics.mean(ticks[clip.name] for clip in short)
        self.long_ticks = statistics.mean(ticks[clip.name] for clip in long)
        self.capacities: dict[str, float] = {}

    def measure_capacities(self, seconds: float) -> None:
        """Ticks a second with 16 clients."""
        for name, side in self.sides.items():
            edge = edge_seconds(side, self.short[:4], self.ticks, 16, 2 * seconds)
            done = closed_slice(side, self.short, self.ticks, concurrency=16, edge=edge, seconds=seconds, seed=0)
            self.capacities[name] = done.ticks_per_second
            print(f"{name}: capacity {done.ticks_per_second / self.ticks_per_clip:.2f} clips/s", flush=True)

    def point(self, name: str, of: str, fraction: float, seconds: float, seed: int, long_share: float = 0.0) -> Point:
        """One open loop against a side at a fraction of the capacity of side `of`."""
        side = self.sides[name]
        per_arrival = (1 - long_share) * self.ticks_per_clip + long_share * self.long_ticks
        rate = fraction * self.capacities[of] / per_arrival
        clips = side.clips([*self.short, *(self.long if long_share else [])])
        weights = {"short": 1 - long_share, "long": long_share} if long_share else None
        target = replace(side.target, timeout_seconds=_TIMEOUT_SECONDS)
        with side.awake():
            done = run(open_loop(target, clips, rate=rate, seconds=seconds, seed=seed, weights=weights))
        answers = {kind: [answer for answer in done.answers if answer.kind == kind] for kind in ("short", "long")}
        late = max((answer.started - answer.scheduled for answer in done.answers), default=0.0)
        point = Point(
            name, fraction, of, round(rate, 4), Waits.of(answers["short"]),
            Waits.of(answers["long"]) if long_share else None,
            round(late * 1e3, 1), round(done.cpu_share, 4), outcomes(done.answers),
        )  # fmt: skip
        print(f"{name} at {fraction:.0%} of {of}, {rate:.2f}/s: {point.short} ms", flush=True)
        return point

    def keeps_up(self, name: str, of: str) -> bool:
        """Whether a side's capacity is above the mix's share of another's."""
        return _MIX_FRACTION * self.capacities[of] <= _NEAR_CAPACITY * self.capacities[name]


def main(arguments: Sequence[str]) -> None:
    """Measure, print tables, write JSON and the plot."""
    flags = parser("latency", __doc__)
    flags.add_argument("--sides")
    flags.add_argument("--fractions", default="0.3,0.5,0.7,0.9", help="'' for no curve")
    flags.add_argument("--seconds", type=float, default=30, help="of arrivals, a point of the curve")
    flags.add_argument("--mix-seconds", type=float, default=120, help="of arrivals, a point of the mix")
    flags.add_argument("--capacity-seconds", type=float, default=15)
    flags.add_argument("--long-share", type=float, default=0.05, help="of the mix's arrivals, two-minute clips")
    flags.add_argument("--clips", type=int, default=64)
    options = flags.parse_args(arguments)
    names = chosen(options.sides, STANDARD[:2] if options.quick else STANDARD)
    fractions = [float(fraction) for fraction in options.fractions.split(",") if fraction]
    seconds, mix_seconds, capacity_seconds = options.seconds, options.mix_seconds, options.capacity_seconds
    if options.quick:
        fractions, seconds, mix_seconds, capacity_seconds = [0.5], 3.0, 4.0, 2.0
    limit = Limit()
    ours = next((name for name in names if name in OURS), names[0])
    with tempfile.TemporaryDirectory() as folder:
        short = clips_of(options.data, options.seed, options.clips)
        long = long_clips(Path(folder), short)
        ticks = {clip.name: limit.ticks(clip) for clip in [*short, *long]}
        with all_up(names, short, limit) as sides:
            field = Field(sides, short, long, ticks)
            field.measure_capacities(capacity_seconds)
            curve = [field.point(name, name, part, seconds, options.seed) for part in fractions for name in names]
            share = options.long_share
            able = [name for name in names if field.keeps_up(name, ours)]
            pairs = [*((name, ours) for name in able), *((name, name) for name in names if name != ours)]
            mix = [field.point(name, of, _MIX_FRACTION, mix_seconds, options.seed, share) for name, of in pairs]
    capacities = {name: rate / field.ticks_per_clip for name, rate in field.capacities.items()}
    results = Results(
        field.ticks_per_clip, capacities, curve, mix, [name for name in names if name not in able],
        share, field.long_ticks, p99_over_best_peer(mix, ours), peer_versions(),
    )  # fmt: skip
    show(results)
    finish("latency", results, options)
    if options.out is not None or not options.quick:
        plot(results, (options.out or RESULTS) / "latency.png")


def p99_over_best_peer(mix: Sequence[Point], ours: str) -> float | None:
    """At the same rate; None where no peer keeps up, or none of ours."""
    at_our_load = {point.side: point.short.p99_ms for point in mix if point.of == ours}
    peers = [wait for side, wait in at_our_load.items() if side not in OURS and wait is not None]
    our_wait = at_our_load.get(ours)
    return None if our_wait is None or not peers else round(our_wait / min(peers), 3)


def show(results: Results, console: Console | None = None) -> None:
    """Both tables."""
    console = console or Console(width=150)
    for title, points in (
        ("short clips alone", results.curve),
        (f"{results.long_share:.0%} two-minute clips", results.mix),
    ):
        table = Table(title=f"{title}: p50 / p95 / p99 of the short ones from the scheduled arrival, ms")
        for heading in ("side", "load", "arrivals/s", "short", "long", "generator"):
            table.add_column(heading, justify="left" if heading == "side" else "right")
        for point in points:
            table.add_row(
                point.side, f"{point.fraction:.0%} of {point.of}", f"{point.rate:.2f}", str(point.short),
                "" if point.long is None else str(point.long), f"{point.generator_cpu_share:.1%}",
            )  # fmt: skip
        console.print(table)
    if results.p99_over_best_peer is not None:
        console.print(f"p99 of the short clips in the mix, ours ÷ the best peer's: {results.p99_over_best_peer:.2f}")
    if results.too_slow:
        console.print(f"capacity below that rate, not run at it: {', '.join(results.too_slow)}")


def plot(results: Results, path: Path) -> None:
    """Latency against load: the median and the 99th percentile of each side over arrivals a second."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for name in results.capacities:
        points = [point for point in results.curve if point.side == name]
        rates = [point.rate for point in points]
        style = {"linewidth": 2.5, "color": "black"} if name == "reelserve" else {"linewidth": 1.2}
        for axis, waits in zip(
            axes, ([point.short.p50_ms for point in points], [point.short.p99_ms for point in points]), strict=True
        ):
            shown = [math.nan if wait is None else wait for wait in waits]
            axis.plot(rates, shown, marker="o", markersize=4, label=name, **style)
    for axis, title in zip(axes, ("median", "99th percentile"), strict=True):
        axis.set(title=title, xlabel="arrivals a second (Poisson)", yscale="log")
        axis.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_ylabel("latency from the scheduled arrival, ms")
    axes[1].legend(fontsize=8)
    figure.suptitle(f"Latency against load, clips of {results.ticks_per_clip:.0f} frames on average")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
