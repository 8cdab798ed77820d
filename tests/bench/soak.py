"""Half an hour of everything at once, at 60 % of what the server can do of it: what grows, and what is left behind.

Short clips, two-minute ones, overlapping windows, probes, broken files, requests that must be refused, and clients that
go away in the middle of their upload or of their answer, in open loop. Counted before and after, each time when the
server has been idle for ten seconds and keeps as many decoders as it may: processes, threads, descriptors, shared
segments and spool files.
Run: `python -m tests.bench soak [--minutes 30]`.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from service.settings import available_cores
from tests.bench.cuts import cut, film, two_seconds
from tests.bench.exchange import connect
from tests.bench.load import Clip, Target, clips_of, send
from tests.bench.report import finish, parser
from tests.bench.summary import OK, Quantiles, outcome
from tests.bench.tree import Holdings, MemoryTrace, MemoryUse
from tests.decoders import idle_decoders, zygote_of
from tests.server import MIB, Server, serve

# Shares of the requests. A two-minute clip costs as much as sixty of two seconds.
SHARES = {
    "short": 0.55, "two minutes": 0.03, "windows": 0.06, "probe": 0.08, "broken": 0.10, "refused": 0.06,
    "leaves uploading": 0.06, "leaves waiting": 0.06,
}  # fmt: skip
GOOD = ("short", "two minutes", "windows", "probe")
_MAX_UPLOAD_BYTES = 16 * MIB
_CACHE_BYTES = MIB // 2  # features of a few of the clips: some hit, some are thrown out
_CONCURRENCY = 16
_NUM_CLIPS = 24
_TRIES = 5
_LONGEST_STAY_SECONDS = 0.5  # of a client that goes away

Outcome = str
Act = Callable[[], Awaitable[Outcome]]


@dataclass
class Tally:
    """What the requests of each kind met, and how long the good ones took."""

    counts: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    async def of(self, kind: str, act: Act) -> None:
        """Do it and count it."""
        started = time.perf_counter()
        met = await act()
        self.counts[kind, met] += 1
        if met == str(OK):
            self.seconds.setdefault(kind, []).append(time.perf_counter() - started)


@dataclass(frozen=True)
class Kind:
    """outcomes: how many requests met what. latency: of the 200s."""

    name: str
    outcomes: Mapping[Outcome, int]
    latency: Quantiles


@dataclass(frozen=True)
class Soak:
    """left: what the server holds more after than before, idle both times; wanted 0 each.

    failures: 5xx, lost connections, and whatever but 200 or 429 a good clip got.
    """

    minutes: float
    capacity: float
    offered: float
    requests: int
    kinds: tuple[Kind, ...]
    failures: Mapping[str, int]
    log_errors: int
    before: Holdings
    left: Holdings
    memory: MemoryUse

    def __str__(self) -> str:
        lines = [
            f"{self.minutes:g} min, {self.requests} requests, {self.offered:.2f} a second; a closed loop of the same "
            f"mix got {self.capacity:.2f} answered"
        ]
        for kind in self.kinds:
            met = ", ".join(f"{count} x {name}" for name, count in kind.outcomes.items())
            lines += [f"  {kind.name:<17}{met}", *([f"  {'':<17}{kind.latency}"] if kind.latency.count else [])]
        failures = ", ".join(f"{count} x {name}" for name, count in self.failures.items()) or "none"
        lines += [
            f"  failures         {failures}; wanted none; errors in the log: {self.log_errors}",
            f"  held before      {self.before}",
            f"  left behind      {self.left}; wanted 0 each",
            f"  memory           {self.memory}; the slope is that of PSS, without the first third",
        ]
        return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print what was answered, what was left behind and how memory went."""
    flags = parser("soak", __doc__)
    flags.add_argument("--minutes", type=float, default=30.0)
    flags.add_argument("--share", type=float, default=0.6, help="of what a closed loop of the same mix gets answered")
    flags.add_argument("--idle-seconds", type=float, default=10.0, help="before what is held is counted")
    options = flags.parse_args(arguments)
    if options.quick:
        options.minutes, options.idle_seconds = 0.05, 1.0
    settings = {"max_upload_bytes": _MAX_UPLOAD_BYTES, "feature_cache_bytes": _CACHE_BYTES}
    with tempfile.TemporaryDirectory() as name, serve(folder := Path(name), "/readyz", **settings) as server:
        crowd = Crowd(Target("reelserve", server.url), folder / "clips", options.data, options.seed)
        result = asyncio.run(_soak(server, crowd, options))
    print(result)
    finish("soak", result, options)


async def _soak(server: Server, crowd: Crowd, options: Namespace) -> Soak:
    seconds = options.minutes * 60.0
    capacity = await _capacity(crowd, max(seconds / 20, 5.0))
    before = await _at_rest(server, crowd, options.idle_seconds)
    tally = Tally()
    with MemoryTrace(server.pid) as memory:
        await _open_loop(crowd, options.share * capacity, seconds, tally)
    left = (await _at_rest(server, crowd, options.idle_seconds)).since(before)
    log = server.log.read_text(errors="replace")
    return Soak(
        minutes=options.minutes,
        capacity=round(capacity, 3),
        offered=round(tally.counts.total() / seconds, 3),
        requests=tally.counts.total(),
        kinds=tuple(
            Kind(
                name,
                {met: count for (kind, met), count in tally.counts.most_common() if kind == name},
                Quantiles.of(tally.seconds.get(name, ())),
            )
            for name in SHARES
        ),
        failures={
            f"{kind}: {met}": count
            for (kind, met), count in tally.counts.most_common()
            if met.startswith(("5", "lost")) or (kind in GOOD and not met.startswith(("200", "429")))
        },
        log_errors=log.count(" ERROR ") + log.count("Traceback"),
        before=before,
        left=left,
        memory=memory.use(skip=1 / 3),
    )


async def _at_rest(server: Server, crowd: Crowd, idle_seconds: float) -> Holdings:
    """What it holds when nothing is asked of it. Of decoders it keeps up to one a core: not as many each time."""
    kept = available_cores()
    for _ in range(_TRIES):
        await crowd.all_at_once()
        await asyncio.sleep(idle_seconds)
        if len(idle_decoders(zygote_of(server.pid).pid)) == kept:
            return Holdings.of(server.pid, server.spool_dir)
    raise RuntimeError(f"the server keeps other than {kept} decoders, a core each, after {_TRIES} times")


async def _capacity(crowd: Crowd, seconds: float) -> float:
    """Requests a second of a closed loop of the same mix."""
    started, tally = time.perf_counter(), Tally()

    async def client() -> None:
        while time.perf_counter() < started + seconds:
            await tally.of(*next(crowd.requests))

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONCURRENCY):
            group.create_task(client())
    return tally.counts.total() / (time.perf_counter() - started)


async def _open_loop(crowd: Crowd, rate: float, seconds: float, tally: Tally) -> None:
    """Poisson arrivals; all are waited for."""
    start, at = time.perf_counter(), 0.0
    async with asyncio.TaskGroup() as group:
        while (at := at + crowd.gap(rate)) < seconds:
            await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
            group.create_task(tally.of(*next(crowd.requests)))


class Crowd:
    """Clients of every kind. requests: endless, drawn by `SHARES`."""

    def __init__(self, target: Target, folder: Path, data: Path, seed: int) -> None:
        self._target = target
        self._generator = np.random.default_rng([seed, 4])
        self._short = two_seconds(folder, data, seed, _NUM_CLIPS)
        self._long = [Clip.of(film(folder / "two-minutes.mp4", data, 120.0, seed=seed), "two minutes")]
        self._windowed = cut(folder, clips_of(data, seed + 1, _NUM_CLIPS), itertools.repeat(8.0), "windowed")
        self._broken = odd_files(data) or [replace(clip, body=clip.body[: len(clip.body) // 2]) for clip in self._short]
        self._cuts = itertools.count(1.0, 0.001)
        self.requests = self._drawn()

    async def all_at_once(self) -> None:
        """Clips that no cache has: each is cut at a moment of its own."""
        cuts = itertools.islice(self._cuts, _CONCURRENCY)
        await asyncio.gather(*(self._send(self._short, f"/v1/predict?end_seconds={at:.3f}") for at in cuts))

    def gap(self, rate: float) -> float:
        """Seconds to the next arrival."""
        return float(self._generator.exponential(1 / rate))

    def _drawn(self) -> Iterator[tuple[str, Act]]:
        acts: dict[str, Act] = {
            "short": lambda: self._send(self._short),
            "two minutes": lambda: self._send(self._long),
            "windows": lambda: self._send(self._windowed, "/v1/predict?window=16&stride=4"),
            "probe": lambda: self._send(self._short, "/v1/probe"),
            "broken": lambda: self._send(self._broken),
            "refused": self._refused,
            "leaves uploading": self._leave_uploading,
            "leaves waiting": self._leave_waiting,
        }
        names = list(SHARES)
        while True:
            name = names[self._generator.choice(len(names), p=list(SHARES.values()))]
            yield name, acts[name]

    def _any(self, clips: Sequence[Clip]) -> Clip:
        return clips[int(self._generator.integers(len(clips)))]

    def _stay(self) -> float:
        return float(self._generator.uniform(0.0, _LONGEST_STAY_SECONDS))

    async def _send(self, clips: Sequence[Clip], path: str = "/v1/predict") -> Outcome:
        return outcome(await send(replace(self._target, path=path), self._any(clips)))

    async def _refused(self) -> Outcome:
        """A query that no one understands, a type that no one sent, or more than is allowed."""
        clip = self._any(self._short)
        match self._generator.integers(3):
            case 0:
                return await self._send([clip], "/v1/predict?topk=1")
            case 1:
                target = replace(self._target, headers={"Content-Type": "text/plain"})
                return outcome(await send(target, clip))
            case _:
                return outcome(await send(self._target, replace(clip, body=bytes(_MAX_UPLOAD_BYTES + 2 * MIB))))

    async def _leave_uploading(self) -> Outcome:
        """Half of the body, and gone."""
        clip = self._any(self._short)
        sock = await connect(self._target.address)
        with sock:
            half = self._target.head(len(clip.body)) + clip.body[: len(clip.body) // 2]
            await asyncio.get_running_loop().sock_sendall(sock, half)
            await asyncio.sleep(self._stay())
        return "gone"

    async def _leave_waiting(self) -> Outcome:
        """All of the body, and gone before the answer, or with it."""
        asked = asyncio.create_task(send(self._target, self._any([*self._short, *self._long])))
        done, _ = await asyncio.wait([asked], timeout=self._stay())
        if done:
            return outcome(asked.result())
        asked.cancel()
        await asyncio.wait([asked])
        return "gone"


def odd_files(data: Path, largest_bytes: int = 4 * MIB) -> list[Clip]:
    """Odd and broken files of test suites; their licences and lists are no video, and are sent all the same."""
    files = sorted((data / "odd").rglob("*"))
    return [Clip.of(path, "broken") for path in files if path.is_file() and 0 < path.stat().st_size <= largest_bytes]
