"""Decode processes as tests see them: whose they are, and whether anything of them is left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from service.video.pool import DecodePool
from tests.server import wait_until

_IDLE = "decoder-idle"


def zygote_of(pid: int) -> psutil.Process:
    """The zygote below a process, by its name, which its children have too until they take their own."""
    named = [child for child in psutil.Process(pid).children(recursive=True) if child.name() == "decode-zygote"]
    [zygote] = [child for child in named if child.ppid() not in {each.pid for each in named}]
    return zygote


def decoders(zygote_pid: int | None) -> list[psutil.Process]:
    """The decode processes of a zygote that have a video."""
    return [child for child, name in _children(zygote_pid) if name != _IDLE]


def idle_decoders(zygote_pid: int | None) -> list[psutil.Process]:
    """The decode processes of a zygote that wait for a video."""
    return [child for child, name in _children(zygote_pid) if name == _IDLE]


def _children(zygote_pid: int | None) -> list[tuple[psutil.Process, str]]:
    """With their names; those that end meanwhile are left out."""
    assert zygote_pid is not None
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(zygote_pid).children():
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append((child, child.name()))
    return found


def only_decoder(pool: DecodePool) -> psutil.Process:
    """The one decode process of a pool."""
    [decoder] = decoders(pool.zygote.pid)
    return decoder


def wait_for_no_decoder(pool: DecodePool) -> None:
    """They end on their own once their channels are closed; TimeoutError when not."""
    wait_until(lambda: not decoders(pool.zygote.pid), "the end of all decode processes")


def open_descriptors(what: str = "") -> int:
    """Open files of this process whose link contains `what`."""
    count = 0
    for link in list(Path("/proc/self/fd").iterdir()):
        try:
            count += what in str(link.readlink())
        except FileNotFoundError:
            continue
    return count
