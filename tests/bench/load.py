"""The load generator: closed loop, and open loop with Poisson arrivals; mixed clips, seeded, over real HTTP.

    answers = run(closed_loop(target, clips, concurrency=16, seconds=10, seed=1)).answers

The open loop never waits for answers: a request is sent when its arrival is due, however many are still out, and its
latency counts from then (no "coordinated omission"). Targets are on this machine only.
"""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.bench.exchange import Exchange, connect, exchange
from tests.real_clips import NAMES, real_clip

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
BOUNDARY = "reelserve-bench-d7f0a1c3"
FIELD = "video"
_PAUSE_AFTER_REFUSAL_SECONDS = 0.1  # a closed loop that is refused must not spin
_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1"}


@dataclass(frozen=True)
class Clip:
    """A video to send. body: the whole multipart body, made once. kind: "short", "long", …"""

    name: str
    path: Path
    body: bytes = field(repr=False)
    kind: str = "short"

    @classmethod
    def of(cls, path: Path, kind: str = "short") -> Clip:
        """Read a file."""
        return cls(path.name, path, multipart(path.read_bytes(), path.name), kind)


@dataclass(frozen=True)
class Target:
    """Where clips are sent. finish_body: whether the body is sent to its end although an answer has begun."""

    name: str
    url: str
    path: str = "/v1/predict"
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 300.0
    finish_body: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """IP address and port. ValueError unless on this machine: load is for nobody else's."""
        parts = urlsplit(self.url)
        if parts.hostname not in _LOOPBACK or parts.port is None:
            raise ValueError(f"{self.url!r} is not http://127.0.0.1:PORT; load goes to this machine alone")
        return _LOOPBACK[parts.hostname], parts.port

    def head(self, num_bytes: int) -> bytes:
        """Request line and headers of an upload of so many bytes."""
        headers = {
            "Host": "{}:{}".format(*self.address),
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Content-Length": str(num_bytes),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode()


@dataclass(frozen=True)
class Answer:
    """What one request met; times of `time.perf_counter`.

    status: 0 when the connection was lost or the target's timeout passed; `lost` says which. code: of a problem, else
    empty. headers: names in lower case.
    scheduled: when the arrival was due (in a closed loop when it started). seconds: first byte sent (or the connection
    asked for) to the whole answer. header_wait_seconds: last header byte to first answer byte. body_wait_seconds: last
    body byte to first answer byte; None when the answer began before the body's end.
    """

    clip: str
    kind: str
    status: int
    code: str
    body: bytes = field(repr=False)
    scheduled: float
    started: float
    seconds: float
    header_wait_seconds: float | None
    body_wait_seconds: float | None
    lost: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> float:
        """When the answer was whole."""
        return self.started + self.seconds

    @property
    def latency_seconds(self) -> float:
        """From the scheduled arrival to the whole answer: what a person waited."""
        return self.ended - self.scheduled


@dataclass(frozen=True)
class Arrival:
    """One request of an open loop, `at` seconds after its start."""

    at: float
    clip: Clip


Choice = Callable[[Sequence[Clip], int], Iterator[Clip]]


def multipart(content: bytes, filename: str) -> bytes:
    """A form with one file, in the field `video`: RFC 7578."""
    disposition = f'Content-Disposition: form-data; name="{FIELD}"; filename="{filename}"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: video/mp4\r\n\r\n"
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def clips_of(data: Path = DATA, seed: int = 0, count: int | None = None, kind: str = "short") -> list[Clip]:
    """Test clips of UCF101's split 1 from `data`/ucf101-12, in a seeded order; without that folder a package's four."""
    manifest = data / "ucf101-12" / "manifest.csv"
    if manifest.is_file():
        with manifest.open(newline="", encoding="utf-8") as file:
            paths = [manifest.parent / "clips" / row["path"] for row in csv.DictReader(file) if row["split1"] == "test"]
    else:
        paths = [real_clip(name) for name in NAMES]
    order = np.random.default_rng(seed).permutation(len(paths))[:count]
    return [Clip.of(paths[index], kind) for index in order]


def in_passes(clips: Sequence[Clip], seed: int) -> Iterator[Clip]:
    """Endlessly, each clip once a pass, every pass in another order."""
    generator = np.random.default_rng(seed)
    while True:
        for index in generator.permutation(len(clips)):
            yield clips[index]


def mixed(weights: Mapping[str, float]) -> Choice:
    """Kinds drawn by their weights; inside a kind as `in_passes`. ValueError for a kind that no clip has."""
    kinds = sorted(weights)
    shares = np.array([weights[kind] for kind in kinds], float)

    def choose(clips: Sequence[Clip], seed: int) -> Iterator[Clip]:
        if missing := set(kinds) - {clip.kind for clip in clips}:
            raise ValueError(f"no clip of kind {', '.join(sorted(missing))}; there are {len(clips)} clips")
        generator = np.random.default_rng(seed)
        passes = [in_passes([clip for clip in clips if clip.kind == kind], seed) for kind in kinds]
        while True:
            yield next(passes[generator.choice(len(kinds), p=shares / shares.sum())])

    return choose


def arrivals(
    clips: Sequence[Clip], rate: float, seconds: float, seed: int, choose: Choice = in_passes
) -> list[Arrival]:
    """Poisson arrivals: exponential gaps of mean 1 / rate seconds, over `seconds`; the same for the same arguments.

    Where chance has none, one comes half way: a phase of nothing measures nothing.
    """
    gaps = np.random.default_rng([seed, 1])
    times = itertools.accumulate(iter(lambda: float(gaps.exponential(1 / rate)), None))
    due = list(itertools.takewhile(lambda at: at < seconds, times)) or [seconds / 2]
    return [Arrival(at, clip) for at, clip in zip(due, choose(clips, seed), strict=False)]


async def send(target: Target, clip: Clip) -> Answer:
    """One request on a connection of its own."""
    async with _Pool(target, reuse=False) as pool:
        return await pool.send(clip)


async def closed_loop(
    target: Target, clips: Sequence[Clip], *, concurrency: int, seconds: float, seed: int, choose: Choice = in_passes
) -> list[Answer]:
    """`concurrency` clients, each sending its next clip when the last is answered; none starts after `seconds`.

    It ends early where `choose` gives no more clips. All that were sent are waited for. In the order of their starts.
    """
    pool = _Pool(target)
    sequence = choose(clips, seed)
    until = time.perf_counter() + seconds
    answers: list[Answer] = []

    async def client() -> None:
        while time.perf_counter() < until and (clip := next(sequence, None)):
            answer = await pool.send(clip)
            answers.append(answer)
            if answer.status != 200:
                await asyncio.sleep(_PAUSE_AFTER_REFUSAL_SECONDS)

    async with pool, asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(client())
    return sorted(answers, key=lambda answer: answer.started)


async def open_loop(
    target: Target,
    clips: Sequence[Clip],
    *,
    rate: float,
    seconds: float,
    seed: int,
    weights: Mapping[str, float] | None = None,
    reuse: bool = True,
) -> list[Answer]:
    """Poisson arrivals at `rate` a second for `seconds`, however slow the answers are; all are waited for.

    weights: shares of the arrivals by kind; without, every clip alike. reuse: whether idle connections are used again.
    In the order of the arrivals.
    """
    due = arrivals(clips, rate, seconds, seed, mixed(weights) if weights else in_passes)
    async with _Pool(target, reuse=reuse) as pool:
        start = time.perf_counter()
        sent: list[asyncio.Task[Answer]] = []
        for arrival in due:
            scheduled = start + arrival.at
            if (wait := scheduled - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            sent.append(asyncio.create_task(pool.send(arrival.clip, scheduled)))
        return await asyncio.gather(*sent)


@dataclass(frozen=True)
class Run:
    """Answers, and what making the load cost this process: its share of one core says whether it was in the way."""

    answers: list[Answer]
    seconds: float
    cpu_seconds: float

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu_seconds / self.seconds


def run(load: Coroutine[Any, Any, list[Answer]]) -> Run:
    """Run a loop to its end in this process, measuring its CPU time."""
    started, cpu = time.perf_counter(), time.process_time()
    answers = asyncio.run(load)
    return Run(answers, time.perf_counter() - started, time.process_time() - cpu)


class _Pool:
    """Connections to one target; idle ones are used again, the last first."""

    def __init__(self, target: Target, *, reuse: bool = True) -> None:
        self._target = target
        self._address = target.address
        self._reuse = reuse
        self._idle: list[socket.socket] = []

    async def __aenter__(self) -> _Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        for sock in self._idle:
            sock.close()

    async def send(self, clip: Clip, scheduled: float | None = None) -> Answer:
        """Send a clip; never raises for what the server does."""
        started = time.perf_counter()
        due = started if scheduled is None else scheduled
        try:
            async with asyncio.timeout(self._target.timeout_seconds):
                done = await self._exchange(clip)
        except (OSError, TimeoutError) as error:  # refused, or no answer in time
            ended = time.perf_counter()
            lost = type(error).__name__
            return Answer(clip.name, clip.kind, 0, "", b"", due, started, ended - started, None, None, lost)
        return _answer(clip, done, due, started)

    async def _exchange(self, clip: Clip) -> Exchange:
        head = self._target.head(len(clip.body))
        while True:
            reused = bool(self._idle)
            sock = self._idle.pop() if reused else await connect(self._address)
            kept = False
            try:
                done = await exchange(sock, head, clip.body, finish_body=self._target.finish_body)
                kept = self._reuse and done.reusable
            finally:
                if kept:
                    self._idle.append(sock)
                else:
                    sock.close()
            if not (reused and done.lost and done.first_byte is None):  # else it had been closed while it was idle
                return done


def _answer(clip: Clip, done: Exchange, scheduled: float, started: float) -> Answer:
    header_wait = body_wait = None
    if done.first_byte is not None and done.header_sent is not None:
        header_wait = done.first_byte - done.header_sent
        body_wait = (
            None if done.body_sent is None or done.body_sent > done.first_byte else done.first_byte - done.body_sent
        )
    code = ""
    if done.headers.get("content-type", "").startswith("application/problem+json") and not done.lost:
        code = str(json.loads(done.body).get("code", ""))
    return Answer(
        clip.name, clip.kind, done.status, code, done.body, scheduled, started, done.ended - started,
        header_wait, body_wait, done.lost, done.headers,
    )  # fmt: skip
