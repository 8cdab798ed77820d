"""Memory that decoding one clip takes: ten seconds and an hour of 1920 x 1080, above the idle pool.

A small process (`tests.bench.decode_client`), the pool's helper and the decoder are summed, sampled every
50 ms: PSS, where shared pages count once, and RSS, where each process counts them again. Idle is measured after the
pool has opened and closed one short clip. Run: `python -m tests.bench decode-memory [--lengths 10,3600]`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.long_clips import loop, moving

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1_000_000
WIDTH, HEIGHT = 1920, 1080
SHORT_SECONDS = 1.0
IDLE_SECONDS = 2.0
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Memory:
    """Bytes, summed over a process and all below it. pss is 0 where the kernel doesn't tell."""

    pss: int = 0
    rss: int = 0
    num_processes: int = 0

    @classmethod
    def of_tree(cls, root: psutil.Process) -> Memory:
        """Now; a process that ends meanwhile counts nothing."""
        pss = rss = count = 0
        for process in (root, *root.children(recursive=True)):
            try:
                rss += process.memory_info().rss
                pss += _pss(process.pid)
                count += 1
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue
        return cls(pss, rss, count)

    def highest(self, other: Memory) -> Memory:
        """Each figure's peak for itself."""
        return Memory(max(self.pss, other.pss), max(self.rss, other.rss), max(self.num_processes, other.num_processes))


class Peak:
    """Samples a process tree in a thread."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self.memory = Memory()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample until the block ends, and once at its start."""
        stop = threading.Event()
        thread = threading.Thread(target=self._sample, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _sample(self, stop: threading.Event) -> None:
        while True:
            self.memory = self.memory.highest(Memory.of_tree(self._root))
            if stop.wait(SAMPLE_SECONDS):
                return


@contextmanager
def client() -> Iterator[tuple[int, Callable[[Path], tuple[int, float]]]]:
    """Process id of a fresh decoding process, and what makes it decode a clip: frames walked, seconds."""
    command = [sys.executable, "-m", "tests.bench.decode_client"]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def decode(clip: Path) -> tuple[int, float]:
            print(clip, file=asked, flush=True)
            answer = answers.readline().split()
            if len(answer) != 2:
                raise RuntimeError("the decoding process ended; its error is above")
            return int(answer[0]), float(answer[1])

        try:
            yield process.pid, decode
        finally:
            asked.close()


def main(arguments: list[str]) -> None:
    """Print one line for each length."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench decode-memory")
    parser.add_argument("--lengths", default="10,3600", help="seconds of video, with commas")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source = moving(Path(folder) / "source.mp4", WIDTH, HEIGHT)
        short = loop(source, Path(folder) / "short.mp4", SHORT_SECONDS)
        for seconds in map(float, options.lengths.split(",")):
            clip = loop(source, Path(folder) / "clip.mp4", seconds)
            with client() as (pid, decode):
                decode(short)
                idle, peak = Peak(pid), Peak(pid)
                with idle.watching():
                    threading.Event().wait(IDLE_SECONDS)
                with peak.watching():
                    walked, wall = decode(clip)
            print(
                f"{WIDTH}x{HEIGHT}, {seconds:g} s ({clip.stat().st_size / MEGABYTE:.0f} MB): {walked} frames in "
                f"{wall:.1f} s; {_line('PSS', idle.memory.pss, peak.memory.pss)}; "
                f"{_line('RSS', idle.memory.rss, peak.memory.rss)}; up to {peak.memory.num_processes} processes",
                flush=True,
            )


def _pss(pid: int) -> int:
    """Proportional set size; 0 where /proc doesn't tell (another system, or no permission)."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    try:
        text = path.read_text()
    except (PermissionError, FileNotFoundError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def _line(name: str, idle: int, peak: int) -> str:
    return f"{name} {idle / MEGABYTE:.0f} MB idle, {(peak - idle) / MEGABYTE:+.0f} MB at the peak"
