"""`python -m service batch` over all clips, in turn with the limit of the machine; then killed at random, and resumed.

The clips are done in shards, one a round, by each engine, beside the limit's own loop. Ticks a second are counted from
the command's start to its end, and once more as it says itself, without the start (Ray's cluster starts after that).
Run: `python -m tests.bench batch [--rounds N] [--engines local,ray] [--limit-seconds S] [--kills N] [--kill-clips N]`.
"""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds

from service.settings import available_cores
from tests.bench.contest import Spread
from tests.bench.limit import ONNX, AllCores, Limit
from tests.bench.load import Clip
from tests.bench.report import ROOT, finish, parser
from tests.real_clips import NAMES, real_clip
from tests.server import environment

_SAID = re.compile(r"(\d+) items in ([0-9.]+) s")


@dataclass(frozen=True)
class Speed:
    """Of rounds, each a shard. whole: from the command's start; running: without it; ÷ the limit, ÷ it on all cores."""

    engine: str
    clips: int
    clips_per_second: float
    running_clips_per_second: float
    whole_of_limit: Spread
    running_of_limit: Spread
    running_of_all_cores: Spread

    def __str__(self) -> str:
        return (
            f"{self.engine}, {self.clips} clips: {self.clips_per_second:.2f} a second with the start, "
            f"{self.running_clips_per_second:.2f} without; without it {self.running_of_limit} of the limit, "
            f"{self.running_of_all_cores} of it on all cores; with it {self.whole_of_limit} of the limit"
        )


@dataclass(frozen=True)
class Killed:
    """A batch killed so often, and resumed. seconds_lost: of work that was done again, by the clips' own times."""

    clips: int
    kills: int
    rows: int
    lost: int
    doubled: int
    done_again: int
    seconds_uninterrupted: float
    seconds_lost: float

    def __str__(self) -> str:
        return (
            f"killed {self.kills} times in {self.clips} clips: {self.lost} rows lost, {self.doubled} doubled; "
            f"{self.seconds_lost:.1f} s of {self.seconds_uninterrupted:.1f} s done again"
        )


@dataclass(frozen=True)
class Manifest:
    """A manifest of files that are absent, each a row. peak_mib: largest resident size of the command's process."""

    lines: int
    peak_mib: float
    seconds: float

    def __str__(self) -> str:
        return f"manifest of {self.lines} lines: {self.peak_mib:.0f} MiB resident at the peak, {self.seconds:.1f} s"


@dataclass(frozen=True)
class Batch:
    """All."""

    speeds: tuple[Speed, ...]
    killed: Killed
    manifests: tuple[Manifest, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.speeds, self.killed, *self.manifests)))


def main(arguments: Sequence[str]) -> None:
    """Run both, print and write."""
    flags = parser("batch", __doc__)
    flags.add_argument("--rounds", type=int, default=4)
    flags.add_argument("--engines", type=lambda text: text.split(","), default=["local", "ray"])
    flags.add_argument("--limit-seconds", type=float, default=10)
    flags.add_argument("--kills", type=int, default=20)
    flags.add_argument("--kill-clips", type=int, default=400)
    options = flags.parse_args(arguments)
    paths = _paths(options.data)
    random.Random(options.seed).shuffle(paths)
    if options.quick:
        paths, options.rounds, options.limit_seconds, options.kills, options.kill_clips = paths[:8], 2, 0.2, 2, 8
    limit = Limit(ONNX)
    speeds = _speeds(limit, paths, options)
    print(*speeds, sep="\n", flush=True)
    killed = _killed(paths[: options.kill_clips], options.kills, random.Random(options.seed))
    print(killed, flush=True)
    manifests = tuple(_manifest(lines) for lines in ((100, 1000) if options.quick else (1000, 10_000, 100_000)))
    print(*manifests, sep="\n")
    finish("batch", Batch(speeds, killed, manifests), options)


def _paths(data: Path) -> list[Path]:
    manifest = data / "ucf101-12" / "manifest.csv"
    if not manifest.is_file():
        return [real_clip(name) for name in NAMES] * 4
    with manifest.open(newline="", encoding="utf-8") as file:
        return [manifest.parent / "clips" / row["path"] for row in csv.DictReader(file)]


def _speeds(limit: Limit, paths: Sequence[Path], options: Namespace) -> tuple[Speed, ...]:
    """Of each engine."""
    limit.measure([Clip.of(paths[0])], 0)  # first runs allocate
    rounds: dict[str, list[_Round]] = {engine: [] for engine in options.engines}
    with AllCores(ONNX, available_cores()) as all_cores:
        for number in range(options.rounds):
            mine = paths[number :: options.rounds]
            best = limit.measure(map(Clip.of, mine), options.limit_seconds).ticks_per_second(available_cores())
            together = all_cores.ticks_per_second(mine, options.limit_seconds)
            for engine, done in rounds.items():
                done.append(_Round(*_run(mine, engine), best, together))
                share = done[-1].running / best
                print(f"round {number + 1}/{options.rounds}, {engine}: {share:.3f} of the limit", flush=True)
    return tuple(
        Speed(
            engine, len(paths), round(len(paths) / sum(one.seconds for one in done), 3),
            round(len(paths) / sum(one.said for one in done), 3), Spread.of([one.whole / one.best for one in done]),
            Spread.of([one.running / one.best for one in done]),
            Spread.of([one.running / one.together for one in done]),
        )
        for engine, done in rounds.items()
    )  # fmt: skip


@dataclass(frozen=True)
class _Round:
    """seconds: of the command; said: as it counts them; best, together: ticks a second of the limit."""

    ticks: int
    seconds: float
    said: float
    best: float
    together: float

    @property
    def whole(self) -> float:
        """Ticks a second, with the start."""
        return self.ticks / self.seconds

    @property
    def running(self) -> float:
        """Without it."""
        return self.ticks / self.said


def _run(paths: Sequence[Path], engine: str) -> tuple[int, float, float]:
    """Ticks, seconds of the command, and seconds as it counts them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        with _start(folder, paths, "--out", "out.parquet", "--engine", engine) as process:
            said = process.communicate()[1]
        seconds = time.perf_counter() - started
        if process.returncode or not (found := _SAID.search(said)):
            raise RuntimeError(said)
        table = ds.dataset(folder / "out.parquet").to_table(columns=["receipt"])
        return sum(row["receipt"]["frames_used"] for row in table.to_pylist()), seconds, float(found[2])


def _killed(paths: Sequence[Path], kills: int, chance: random.Random) -> Killed:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        with _start(folder, paths, "--out", "whole.parquet") as process:
            said = process.communicate()[1]
        uninterrupted = time.perf_counter() - started
        if process.returncode or not (found := _SAID.search(said)):
            raise RuntimeError(said)
        per_clip, start = float(found[2]) / len(paths), uninterrupted - float(found[2])
        num_runs, busy, done = 0, 0.0, False
        while not done:
            with _start(folder, paths, "--out", "out.parquet", *(["--resume"] if num_runs else [])) as process:
                began = time.perf_counter()
                if num_runs < kills:
                    _sleep(process, start + chance.uniform(0.2, 1.2) * per_clip * len(paths) / kills)
                    process.send_signal(signal.SIGKILL)
                process.communicate()
                busy += max(0.0, time.perf_counter() - began - start)
            done = process.returncode == 0
            num_runs += process.returncode == -signal.SIGKILL
            if process.returncode not in (0, -signal.SIGKILL):
                raise RuntimeError(f"exit {process.returncode}")
        rows = ds.dataset(folder / "out.parquet").to_table(columns=["id"])["id"].to_pylist()
        recorded = len(set(rows))
        doubled = sum(count - 1 for count in Counter(rows).values())
        again = max(0.0, busy - per_clip * len(paths))
        return Killed(
            len(paths), num_runs, len(rows), len(paths) - recorded, doubled, round(again / per_clip),
            round(uninterrupted, 1), round(again, 1),
        )  # fmt: skip


def _manifest(lines: int) -> Manifest:
    """Absent files: what is measured is the list, what was seen of it, and the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        process = _start(folder, [Path(f"absent/{number}.mp4") for number in range(lines)], "--out", "out.parquet")
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        if ds.dataset(folder / "out.parquet").count_rows() != lines:
            raise RuntimeError(said)
        return Manifest(lines, round(usage.ru_maxrss / 1024, 1), round(time.perf_counter() - started, 1))


def _sleep(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _start(folder: Path, paths: Sequence[Path], *arguments: str) -> subprocess.Popen[str]:
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "path"], *([str(number), path] for number, path in enumerate(paths))])
    ours = {"spool_dir": folder / "spool", "feature_cache_bytes": 0}
    env = {**environment(folder, ours), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "service", "batch", str(manifest), *arguments],
        cwd=folder, env=env, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
