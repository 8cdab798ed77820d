"""A server's process tree: its memory over time, and what it holds (processes, threads, descriptors, segments)."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import psutil

from tests.bench.decode_memory import Memory

MIB = 1024 * 1024
# The kernel walks every page and holds up the process meanwhile. Peaks that last less than this may be missed.
SAMPLE_SECONDS = 2.0
_HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class MemoryUse:
    """Of a tree over a while, MiB. PSS counts shared pages once, RSS once in each process; peaks each for itself."""

    first_pss: float
    peak_pss: float
    peak_rss: float
    last_pss: float
    pss_per_hour: float
    samples: int

    def __str__(self) -> str:
        return (
            f"PSS {self.first_pss:.0f} MiB at first, {self.peak_pss:.0f} at the peak, {self.last_pss:.0f} at last "
            f"({self.pss_per_hour:+.0f} MiB an hour by a linear fit); RSS {self.peak_rss:.0f} at the peak"
        )


class MemoryTrace:
    """Samples the memory of a process tree in a thread.

    >>> with MemoryTrace(server.pid) as trace: ...                              # doctest: +SKIP
    >>> trace.use(skip=1 / 3).pss_per_hour                                       # doctest: +SKIP
    """

    def __init__(self, pid: int, period_seconds: float = SAMPLE_SECONDS) -> None:
        self._root = psutil.Process(pid)
        self._period = period_seconds
        self._samples: list[tuple[float, Memory]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> MemoryTrace:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def samples(self) -> int:
        """So far."""
        return len(self._samples)

    def use(self, skip: float = 0.0) -> MemoryUse:
        """Of all samples; the slope without the first `skip` (a share of the time)."""
        times = np.array([at for at, _ in self._samples])
        pss = np.array([memory.pss for _, memory in self._samples]) / MIB
        rss = np.array([memory.rss for _, memory in self._samples]) / MIB
        late = times >= times[0] + skip * (times[-1] - times[0])
        slope = float(np.polyfit(times[late], pss[late], 1)[0]) if late.sum() > 1 else 0.0
        return MemoryUse(
            first_pss=round(float(pss[0]), 1),
            peak_pss=round(float(pss.max()), 1),
            peak_rss=round(float(rss.max()), 1),
            last_pss=round(float(pss[-1]), 1),
            pss_per_hour=round(slope * _HOUR_SECONDS, 1),
            samples=len(times),
        )

    def _sample(self) -> None:
        while True:
            self._samples.append((time.monotonic(), Memory.of_tree(self._root)))
            if self._stop.wait(self._period):
                return


@dataclass(frozen=True)
class Holdings:
    """What a server holds: counts over its process tree, and files in its spool. memfds: open, or mapped."""

    processes: int
    threads: int
    descriptors: int
    memfds: int
    spool_files: int

    @classmethod
    def of(cls, pid: int, spool_dir: Path) -> Holdings:
        """Now."""
        processes = threads = descriptors = memfds = 0
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                threads += process.num_threads()
                descriptors += process.num_fds()
                memfds += len(_memfds(process.pid))
                processes += 1
        return cls(processes, threads, descriptors, memfds, len(list(spool_dir.iterdir())))

    def since(self, before: Holdings) -> Holdings:
        """What came on top; negative where something went."""
        return Holdings(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))

    def __str__(self) -> str:
        return ", ".join(f"{each.name.replace('_', ' ')} {getattr(self, each.name)}" for each in fields(self))


def _memfds(pid: int) -> set[str]:
    """Shared segments without a name that a process has open or mapped, by inode."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("/memfd:"):
                found.add(str(link.stat().st_ino))
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "/memfd:" in line:
            found.add(line.split()[4])
    return found
