"""What a pool holds in the system, so that a leak shows: descriptors, shared memory, processes, files."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

from service.video.pool import DecodePool
from tests.decoders import idle_decoders
from tests.server import wait_until

# A decoder whose channel was closed is killed and reaped a moment later.
_SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Holdings:
    """Of this process and of the zygote, at one moment."""

    zygote: tuple[int, float]
    decoders: int
    descriptors: int
    memory_files: int
    zygote_descriptors: int
    shared_memory: frozenset[str]
    files: frozenset[str]

    @classmethod
    def of(cls, pool: DecodePool, folder: Path) -> Holdings:
        """folder: where the work, and whatever else is temporary, is done."""
        gc.collect()
        assert pool.zygote.pid is not None
        zygote, me = psutil.Process(pool.zygote.pid), psutil.Process()
        pool.end_idle()  # they are kept on purpose
        wait_until(lambda: not idle_decoders(zygote.pid), "their end")
        return cls(
            zygote=(zygote.pid, zygote.create_time()),
            decoders=len(zygote.children(recursive=True)),
            descriptors=me.num_fds(),
            memory_files=memory_files(me.pid),
            zygote_descriptors=zygote.num_fds(),
            shared_memory=frozenset(path.name for path in Path("/dev/shm").iterdir()),  # noqa: S108
            files=frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*")),
        )

    def leaks(self, pool: DecodePool, folder: Path) -> list[str]:
        """What there is now and was not then, once it has settled (other programs may use /dev/shm for a while)."""
        until = time.monotonic() + _SETTLE_SECONDS
        while differences := self._differences(Holdings.of(pool, folder)):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return differences

    def _differences(self, now: Holdings) -> list[str]:
        found = []
        for field in fields(self):
            was, there = getattr(self, field.name), getattr(now, field.name)
            if isinstance(was, frozenset):
                was, there = [], sorted(there - was)
            if was != there:
                found.append(f"{field.name}: {was} before, {there} now")
        return found


def memory_files(pid: int) -> int:
    """Open memfds of a process."""
    return sum(_target(link).startswith("/memfd:") for link in Path(f"/proc/{pid}/fd").iterdir())


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""
