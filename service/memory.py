"""How much memory the service may use and how much is used: by a setting, by its cgroup, or by the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from service import settings
from service.settings import CLIP_MEMORY_BYTES, MIB


@dataclass(frozen=True)
class Memory:
    """Bytes. used: of what counts against the limit, now. limited_by: whose limit it is, in words."""

    limit: int
    used: int
    limited_by: str

    @classmethod
    def now(cls, limit: int | None = None) -> Memory:
        """limit: the setting `memory_limit_bytes`, which counts this process; else the lower one of cgroup and machine.

        Of a cgroup (v2 or v1) all processes count, without the cache of files, which the kernel gives back when asked.
        Of a machine, what it has not left for others (`MemAvailable`).
        """
        if limit is not None:
            return cls(limit, resident_bytes(), "the setting memory_limit_bytes")
        most, on_machine = settings.available_memory_bytes(), psutil.virtual_memory()
        if most < on_machine.total and (used := _cgroup_used()) is not None:
            return cls(most, used, "the container's cgroup")
        return cls(on_machine.total, on_machine.total - on_machine.available, "the machine")

    def misfit(self, needs: int, *, clips: int) -> str:
        """Why `needs` bytes more do not fit beside `clips` open clips, in figures; or empty."""
        kept = clips * CLIP_MEMORY_BYTES
        free = self.limit - self.used - kept
        if needs <= free:
            return ""
        return (
            f"{mib(max(0, free))} are free: the limit is {mib(self.limit)} ({self.limited_by}), {mib(self.used)} are "
            f"used, {mib(kept)} are kept for open clips (max_clips_in_progress)"
        )


def resident_bytes() -> int:
    """Memory of this process that is in RAM (RSS)."""
    return int(psutil.Process().memory_info().rss)


def mib(num_bytes: int) -> str:
    """For the eye."""
    return f"{num_bytes / MIB:.1f} MiB"


def _cgroup_used() -> int | None:
    """Bytes that count against the cgroup's limit and can't be taken back; None where it does not say."""
    for current, stat, caches in (
        ("memory.current", "memory.stat", ("active_file", "inactive_file")),
        ("memory/memory.usage_in_bytes", "memory/memory.stat", ("total_active_file", "total_inactive_file")),
    ):
        try:
            lines = _read(stat).splitlines()
            counts = {name: int(value) for name, value in (line.split() for line in lines)}
            return int(_read(current)) - sum(counts[name] for name in caches)
        except (OSError, ValueError, KeyError):  # no such cgroup, or an older kernel's
            continue
    return None


def _read(file: str) -> str:
    return Path(settings.CGROUP / file).read_text(encoding="ascii")
