"""Headers within bounds of time, for a process that ends with its video: MediaInfo hangs on some broken ones."""

from __future__ import annotations

import threading
import time
from typing import BinaryIO

from service.video.container import Container, identify
from service.video.errors import NoSuchStream

# Milliseconds are the rule; a loop in it has no end. Of CPU time, so that a busy machine changes no answer; and of time
# that passes, should it wait for something.
_CPU_SECONDS, _WALL_SECONDS = 2.0, 10.0
_LOOK_SECONDS = 0.1


def identify_soon(file: BinaryIO, stream: int | None = None) -> Container:
    """`identify`; what hangs is left behind, a thread that ends with its process.

    Such a file gives `Container()`; FFmpeg may still decode it. Raises NoSuchStream.
    """
    found: list[Container | NoSuchStream] = []
    clocks: list[int] = []

    def look() -> None:
        clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        try:
            found.append(identify(file, stream))
        except NoSuchStream as error:
            found.append(error)

    thread = threading.Thread(target=look, name="identify", daemon=True)
    thread.start()
    until = time.monotonic() + _WALL_SECONDS
    while thread.is_alive() and _spent_seconds(clocks) < _CPU_SECONDS and time.monotonic() < until:
        thread.join(_LOOK_SECONDS)
    if not found:
        return Container()
    if isinstance(found[0], NoSuchStream):
        raise found[0]
    return found[0]


def _spent_seconds(clocks: list[int]) -> float:
    """By the clock of a thread; 0 before it has given one, and once it has ended."""
    try:
        return time.clock_gettime(clocks[0])
    except (IndexError, OSError):
        return 0.0
