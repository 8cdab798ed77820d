"""Jobs of a running service: what interactive clips notice of one, and what a replica's death costs one.

1. As `tests.bench film`, with a job of short clips in place of the film: phases alternate, clips in open loop at 30 %
of capacity without the job, then with it. 2. Two replicas on PostgreSQL share a job; one is killed in the middle of
it (only where PostgreSQL is installed). Run: `python -m tests.bench jobs [--seconds S] [--rounds N] [--items N]`.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy

from service.jobs.tables import ITEMS
from tests.bench.beside import Beside, Phase, latency_of
from tests.bench.cuts import two_seconds
from tests.bench.load import Target, clips_of
from tests.bench.report import finish, parser
from tests.bench.summary import outcomes
from tests.postgres import binaries, postgres
from tests.server import Server, serve, serve_until_killed, wait_until

_NUM_CLIPS = 24
_JOB_ITEMS = 20_000  # more than a phase can do


@dataclass(frozen=True)
class Interactive:
    """p99 of the clips with a job ÷ without. job_share: of encoded frames."""

    capacity: float
    offered: float
    without: tuple[Phase, ...]
    beside: tuple[Phase, ...]
    p50_ratio: float
    p99_ratio: float
    median_p99_ratio: float
    job_share: float
    outcomes: dict[str, int]

    def __str__(self) -> str:
        def p99(phases: tuple[Phase, ...]) -> str:
            return ", ".join(f"{phase.latency.p99_ms:.1f}" for phase in phases)

        return (
            f"two-second clips at {self.offered:.2f} a second, {self.offered / self.capacity:.2f} of "
            f"{self.capacity:.2f}\n"
            f"  p99 without     {p99(self.without)} ms\n"
            f"  p99 with a job  {p99(self.beside)} ms\n"
            f"  with ÷ without  p50 {self.p50_ratio:.3f}, p99 {self.p99_ratio:.3f} (wanted <= 1.5), median of rounds "
            f"{self.median_p99_ratio:.3f}\n"
            f"  job's share     {self.job_share:.3f} of encoded frames\n"
            f"  clips' answers  {', '.join(f'{count} x {name}' for name, count in self.outcomes.items())}"
        )


@dataclass(frozen=True)
class Takeover:
    """A replica killed in the middle of a job. seconds: until the last item that it had was recorded by the other."""

    items: int
    lease_seconds: float
    done_before: int
    in_hand: int
    lost: int
    doubled: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"two replicas on PostgreSQL, one killed after {self.done_before} of {self.items} items with "
            f"{self.in_hand} in hand: {self.lost} lost, {self.doubled} doubled; taken over and done in "
            f"{self.seconds:.1f} s with leases of {self.lease_seconds:g} s"
        )


@dataclass(frozen=True)
class Jobs:
    """Both; the second None without PostgreSQL."""

    interactive: Interactive
    takeover: Takeover | None

    def __str__(self) -> str:
        return f"{self.interactive}\n{self.takeover or 'no PostgreSQL here: no takeover'}"


def main(arguments: list[str]) -> None:
    """Print and write both."""
    flags = parser("jobs", __doc__)
    flags.add_argument("--seconds", type=float, default=60.0, help="of a phase")
    flags.add_argument("--rounds", type=int, default=4, help="of one phase without and one with")
    flags.add_argument("--share", type=float, default=0.3, help="of capacity, that the clips take")
    flags.add_argument("--items", type=int, default=200, help="of the job whose replica is killed")
    options = flags.parse_args(arguments)
    if options.quick:
        options.seconds, options.rounds, options.items = 2.0, 2, 20
    with tempfile.TemporaryDirectory() as folder:
        interactive = asyncio.run(_interactive(Path(folder), options))
    print(interactive, flush=True)
    takeover = None
    if binaries() is not None:
        with tempfile.TemporaryDirectory() as folder, postgres() as url:
            takeover = _takeover(Path(folder), url, options)
    result = Jobs(interactive, takeover)
    print(result)
    finish("jobs", result, options)


async def _interactive(folder: Path, options: Namespace) -> Interactive:
    clips = two_seconds(folder / "clips", options.data, options.seed, _NUM_CLIPS)
    short = [clip.path for clip in clips_of(options.data, options.seed)]
    prefixes = ",".join(sorted({path.parent.as_uri() for path in short}))
    with serve(folder, feature_cache_bytes=0, job_uri_prefixes=prefixes) as server:
        beside = Beside(server, Target("reelserve", server.url), clips)
        capacity = await beside.capacity(options.seconds, options.seed)
        arrivals = options.share * capacity
        all_without, all_beside, without, with_job = [], [], [], []
        for number in range(options.rounds):
            shots, phase = await beside.phase(arrivals, options.seconds, options.seed + number)
            all_without += shots
            without.append(phase)
            job_id = await asyncio.to_thread(_submit, server, short, _JOB_ITEMS)
            await asyncio.to_thread(_wait_until_begun, server, job_id)
            shots, phase = await beside.phase(arrivals, options.seconds, options.seed + number)
            all_beside += shots
            with_job.append(phase)
            await asyncio.to_thread(_cancel, server, job_id)
    apart, together = latency_of(all_without), latency_of(all_beside)
    ratios = [b.latency.p99_ms / w.latency.p99_ms for w, b in zip(without, with_job, strict=True)]
    return Interactive(
        round(capacity, 3), round(arrivals, 3), tuple(without), tuple(with_job),
        round(together.p50_ms / apart.p50_ms, 4), round(together.p99_ms / apart.p99_ms, 4),
        round(statistics.median(ratios), 4), round(statistics.median(phase.film_share for phase in with_job), 4),
        outcomes(all_without + all_beside),
    )  # fmt: skip


def _takeover(folder: Path, url: str, options: Namespace) -> Takeover:
    short = [clip.path for clip in clips_of(options.data, options.seed)]
    settings: dict[str, Any] = {
        "feature_cache_bytes": 0, "jobs_url": url, "job_lease_seconds": 5,
        "secret_key": "a key of these replicas and long",
        "job_uri_prefixes": ",".join(sorted({path.parent.as_uri() for path in short})),
    }  # fmt: skip
    engine = sqlalchemy.create_engine(url)

    def count(*where: sqlalchemy.ColumnElement[bool]) -> int:
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(ITEMS).where(*where))
            return int(found.scalar_one())

    for name in ("one", "two"):
        (folder / name).mkdir()
    with serve(folder / "one", **settings) as first:
        with serve_until_killed(folder / "two", **settings) as second:
            job_id = _submit(first, short, options.items)
            mine = sqlalchemy.or_(*(ITEMS.c.owner.like(f"%-{process.pid}-%") for process in second.family()))
            wait_until(lambda: _done(first, job_id) > options.items // 3 and count(mine) > 0, "a third of the job")
            in_hand = count(mine)
            done = _done(first, job_id)
            killed = time.perf_counter()
            second.kill()
            taken = (ITEMS.c.fence > 1, ITEMS.c.state == "running")
            wait_until(lambda: count(mine) == 0 and count(*taken) == 0, "the takeover")
            seconds = time.perf_counter() - killed
        wait_until(lambda: _done(first, job_id) == options.items, "the job's end")
        with first.client() as http:
            rows = [line for line in http.get(f"/v1/jobs/{job_id}/results").text.splitlines() if line]
    engine.dispose()
    ids = Counter(httpx.Response(200, text=line).json()["id"] for line in rows)
    return Takeover(
        options.items, 5.0, done, in_hand, options.items - len(ids), sum(ids.values()) - len(ids), round(seconds, 2)
    )


def _submit(server: Server, paths: list[Path], count: int) -> str:
    items = [{"id": str(number), "uri": paths[number % len(paths)].as_uri()} for number in range(count)]
    with server.client() as http:
        return str(http.post("/v1/jobs", json={"items": items}).raise_for_status().json()["id"])


def _wait_until_begun(server: Server, job_id: str) -> None:
    wait_until(lambda: _done(server, job_id) > 0, "the job to begin")


def _done(server: Server, job_id: str) -> int:
    with server.client() as http:
        counts = http.get(f"/v1/jobs/{job_id}").raise_for_status().json()["counts"]
    return int(counts.get("ok", 0) + counts.get("error", 0))


def _cancel(server: Server, job_id: str) -> None:
    with server.client() as http:
        http.delete(f"/v1/jobs/{job_id}").raise_for_status()
