"""Three times what the server can do, for a minute, by clients that don't wait: what it still does, how it refuses.

Open loop at 3 x the peak that a closed loop finds in the same run; two-second clips as they are, and padded to 5 MB
by an MP4 `free` box. The clients of the large ones write their whole upload before they read. Gate (a) refuses on
the headers, before the body has come; gate (b) after it. A small body has come before any answer can.
Run: `python -m tests.bench overload [--seconds 60] [--times 3]`.
"""

from __future__ import annotations

import asyncio
import bisect
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.cuts import two_seconds
from tests.bench.load import Answer, Clip, Target, closed_loop, open_loop
from tests.bench.report import finish, parser
from tests.bench.summary import Quantiles, answered, only_ok, outcomes, rate
from tests.bench.tree import MemoryTrace, MemoryUse
from tests.bench.upload import MEGABYTE, pad
from tests.server import serve

LARGE_BYTES = 5 * MEGABYTE
REFUSED = (413, 429, 503)
_CONCURRENCY = 16
_NUM_CLIPS = 24
_SHORTEST_PEAK_SECONDS = 5.0
_SETTLING = 1 / 6  # of a measurement's time, left out of its rate
_STEP_SECONDS = 0.02
_NORMAL = 2.0  # a latency within this factor of the idle one


@dataclass(frozen=True)
class Refusals:
    """Those that came, or should have. lost: connections that broke before an answer (of any request)."""

    received: int
    lost: int
    before_body_end: Quantiles
    after_body: Quantiles

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Refusals:
        """Waits from the last header byte where the answer began before the body's end, else from the body's last."""
        refused = [answer for answer in answers if answer.status in REFUSED]
        early = [a.header_wait_seconds for a in refused if a.body_wait_seconds is None and a.header_wait_seconds]
        late = [a.body_wait_seconds for a in refused if a.body_wait_seconds is not None]
        return cls(len(refused), sum(answer.status == 0 for answer in answers), Quantiles.of(early), Quantiles.of(late))


@dataclass(frozen=True)
class Patience:
    """Retry-After against the truth, seconds. drained: from the last arrival to the last answer of the overload.

    retry_after: median, and the largest; next_accepted: from a refusal to the next arrival that was let in, median.
    last_retry_after: median of the last two seconds' refusals, to hold against `drained`.
    """

    retry_after: float
    largest_retry_after: float
    last_retry_after: float
    next_accepted: float
    drained: float

    @classmethod
    def of(cls, answers: Sequence[Answer], ended: float) -> Patience:
        """ended: when arrivals ended, `time.perf_counter`."""
        told = [(a.ended, float(a.headers["retry-after"])) for a in answers if "retry-after" in a.headers]
        let_in = sorted(answer.started for answer in answered(answers))
        gaps = [let_in[i] - at for at, _ in told if (i := bisect.bisect(let_in, at)) < len(let_in)]
        waits = [wait for _, wait in told]
        return cls(
            retry_after=_median(waits),
            largest_retry_after=max(waits, default=0.0),
            last_retry_after=_median([wait for at, wait in told if at >= ended - 2.0]),
            next_accepted=_median(gaps),
            drained=round(max(answer.ended for answer in answers) - ended, 3),
        )


@dataclass(frozen=True)
class Overload:
    """One variant. Rates in clips a second; goodput in that part of the overload when it had settled.

    recovery_seconds: from the last arrival to the first probe from which on all are within twice the idle median;
    None: not while it was watched. client_cores: what making the load took of the machine; client_lag: how late its
    event loop was, which every wait above has in it.
    """

    variant: str
    upload_bytes: int
    idle_ms: float
    peak_before: float
    peak_after: float
    offered: float
    goodput: float
    goodput_of_peak: float
    outcomes: dict[str, int]
    latency: Quantiles
    refusals: Refusals
    patience: Patience
    recovery_seconds: float | None
    memory: MemoryUse
    client_cores: float
    client_lag: Quantiles

    def __str__(self) -> str:
        recovery = "not seen" if self.recovery_seconds is None else f"{self.recovery_seconds:.2f} s"
        refusals, patience = self.refusals, self.patience
        return "\n".join(
            (
                f"{self.variant}: uploads of {self.upload_bytes / MEGABYTE:.2f} MB, {self.offered:.1f} a second",
                f"  goodput         {self.goodput:.2f} clips/s, {self.goodput_of_peak:.3f} of the peak "
                f"({self.peak_before:.2f} before, {self.peak_after:.2f} after); wanted >= 0.9",
                f"  answers         {', '.join(f'{count} x {name}' for name, count in self.outcomes.items())}",
                f"  latency of 200s {self.latency}; idle {self.idle_ms:.1f} ms",
                f"  refusals        {refusals.received} received, {refusals.lost} connections lost; wanted 0 lost",
                f"  before body end {refusals.before_body_end} after the headers; wanted p99 <= 50",
                f"  after the body  {refusals.after_body} after it; wanted p99 <= 50",
                f"  Retry-After     median {patience.retry_after:g} s, at most {patience.largest_retry_after:g}; "
                f"the next was let in after {patience.next_accepted:.2f} s",
                f"  at the end      {patience.last_retry_after:g} s said, drained in {patience.drained:.2f} s",
                f"  recovery        {recovery} until a probe is within {_NORMAL:g} x idle",
                f"  memory          {self.memory}",
                f"  the clients     {self.client_cores:.2f} cores, late by {self.client_lag}",
            )
        )


def main(arguments: list[str]) -> None:
    """Print a block for each variant."""
    flags = parser("overload", __doc__)
    flags.add_argument("--seconds", type=float, default=60.0, help="of the overload")
    flags.add_argument("--times", type=float, default=3.0, help="offered load, by the peak")
    flags.add_argument("--variants", default="small,large", help="small: clips as they are; large: padded to 5 MB")
    flags.add_argument("--request-timeout", type=float, help="X-Request-Timeout of the overload's requests, seconds")
    options = flags.parse_args(arguments)
    if options.quick:
        options.seconds = 2.0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        clips = two_seconds(Path(folder) / "clips", options.data, options.seed, _NUM_CLIPS)
        for variant in options.variants.split(","):
            sent = _padded(clips, Path(folder) / "large") if variant == "large" else clips
            with serve(Path(folder), feature_cache_bytes=0) as server:
                target = Target("reelserve", server.url, finish_body=variant == "large")
                results.append(asyncio.run(_overload(variant, target, sent, server.pid, options)))
            print(results[-1], flush=True)
    finish("overload", results, options)


async def _overload(variant: str, target: Target, clips: list[Clip], pid: int, options: Namespace) -> Overload:
    seconds, seed = options.seconds, options.seed
    probe = clips[:1]
    await closed_loop(target, clips, concurrency=_CONCURRENCY, seconds=seconds / 12, seed=seed)  # warm
    quiet = await closed_loop(target, probe, concurrency=1, seconds=seconds / 6, seed=seed)
    idle = statistics.median(answer.seconds for answer in only_ok(quiet, "idle"))
    before = await _peak(target, clips, seconds / 2, seed)
    pressed = _pressed(target, options.request_timeout)
    with MemoryTrace(pid) as memory:
        started, cpu = time.perf_counter(), time.process_time()
        offering = asyncio.create_task(
            open_loop(pressed, clips, rate=options.times * before, seconds=seconds, seed=seed)
        )
        lags = await _lags(started + seconds)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
    probes: list[Answer] = []
    while not offering.done() or probes[-1].started < max(answer.ended for answer in await offering):
        probes += await closed_loop(target, probe, concurrency=1, seconds=seconds / 12, seed=seed)
    answers = await offering
    after = await _peak(target, clips, seconds / 2, seed)
    goodput = rate(answers, started + _SETTLING * seconds, ended)
    return Overload(
        variant=variant,
        upload_bytes=round(statistics.mean(len(clip.body) for clip in clips)),
        idle_ms=round(idle * 1e3, 3),
        peak_before=round(before, 3),
        peak_after=round(after, 3),
        offered=round(len(answers) / seconds, 3),
        goodput=round(goodput, 3),
        goodput_of_peak=round(goodput / statistics.mean((before, after)), 4),
        outcomes=outcomes(answers),
        latency=Quantiles.of(answer.latency_seconds for answer in answered(answers)),
        refusals=Refusals.of(answers),
        patience=Patience.of(answers, ended),
        recovery_seconds=recovery(probes, ended, _NORMAL * idle),
        memory=memory.use(skip=_SETTLING),
        client_cores=round(cpu / (ended - started), 3),
        client_lag=Quantiles.of(lags),
    )


async def _peak(target: Target, clips: list[Clip], seconds: float, seed: int) -> float:
    """Clips a second of a closed loop, once it has settled. RuntimeError where there are none."""
    seconds = max(seconds, _SHORTEST_PEAK_SECONDS)
    started = time.perf_counter()
    answers = await closed_loop(target, clips, concurrency=_CONCURRENCY, seconds=seconds, seed=seed)
    if peak := rate(answers, started + _SETTLING * seconds, started + seconds):
        return peak
    raise RuntimeError(f"{_CONCURRENCY} clients got no clip answered in {seconds:g} s: {outcomes(answers)}")


async def _lags(until: float) -> list[float]:
    """Sleep in small steps until then; by how much each was longer than asked for."""
    lags = []
    while (now := time.perf_counter()) < until:
        await asyncio.sleep(_STEP_SECONDS)
        lags.append(time.perf_counter() - now - _STEP_SECONDS)
    return lags


def _pressed(target: Target, timeout_seconds: float | None) -> Target:
    if timeout_seconds is None:
        return target
    return replace(target, headers={**target.headers, "X-Request-Timeout": f"{timeout_seconds:g}"})


def _padded(clips: list[Clip], folder: Path) -> list[Clip]:
    folder.mkdir()
    return [Clip.of(pad(clip.path, folder / clip.name, LARGE_BYTES)) for clip in clips]


def _median(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 3) if seconds else 0.0


def recovery(probes: Sequence[Answer], ended: float, normal_seconds: float) -> float | None:
    """Seconds from `ended` to the start of the first probe from which on all are 200 and within `normal_seconds`."""
    recovered = None
    for probe in reversed(probes):
        if probe.status != 200 or probe.seconds > normal_seconds:
            break
        recovered = round(probe.started - ended, 3)
    return recovered
