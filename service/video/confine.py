"""The bounds of a decode process (Linux): rlimits, no new files, FFmpeg's error lines caught, death with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from service.video.limits import DecodeLimits

_LOG_BYTES = 64 * 1024
_LEVEL, _ERROR_LEVEL = re.compile(r"\[OPENCV:FFMPEG:(-?\d+)\]"), 16
# swscale, which has no other way to say so (`service.video.opencv_source`).
_INTERLACED = "Cannot convert interlaced to progressive frames"
# An allocation that failed was no larger than this many frames.
_LARGEST_ALLOCATION_FRAMES = 4
# Of a process's memory, what earlier videos may have taken.
_FRESH_SHARE = 0.25
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_OOM_SCORE_MOST = "1000"


class FfmpegLog:
    """FFmpeg's lines, caught where OpenCV prints them: the process's standard output and error.

    Errors (level 16 and below) are kept.
    Needs OPENCV_FFMPEG_LOGLEVEL=16 when cv2 opens its first file, and an unbuffered C stdout (`python -u`).
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("ffmpeg-log")
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        self._seen = 0
        self._error: str | None = None
        self._interlaced = False

    def take(self) -> str | None:
        """The first error since the last call, without FFmpeg's tags."""
        self._read()
        error, self._error = self._error, None
        return error

    def take_interlaced(self) -> bool:
        """Whether since the last call a conversion failed as the frame was interlaced."""
        self._read()
        interlaced, self._interlaced = self._interlaced, False
        if interlaced:  # swscale's further words for it are no damage
            self._error = None
        return interlaced

    def _read(self) -> None:
        size = os.lseek(self._file, 0, os.SEEK_CUR)  # all copies of a descriptor write at one offset (dup(2))
        if size == self._seen:
            return
        text = os.pread(self._file, min(size - self._seen, _LOG_BYTES), self._seen).decode("utf-8", "replace")
        self._keep(text)
        self._seen = size
        if size > _LOG_BYTES:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._seen = 0

    def _keep(self, text: str) -> None:
        level = _ERROR_LEVEL
        for line in text.splitlines():
            if tag := _LEVEL.match(line):  # a message's further lines have none
                level = int(tag[1])
            if _INTERLACED in line:
                self._interlaced = True
            elif level <= _ERROR_LEVEL and self._error is None:
                self._error = line.rpartition("] ")[2].strip()[:200] or "an error without words"


class Memory:
    """The address space of this process, bounded from now on to `more_bytes` above what it has."""

    def __init__(self, more_bytes: int) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._more_bytes = more_bytes
        self._limit = self._read("VmSize") + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (self._limit, self._limit))

    def exhausted(self, frame_pixels: int) -> bool:
        """Whether an allocation of a few frames may have failed: FFmpeg then ends as it does at the file's end."""
        return self._read("VmPeak") + _LARGEST_ALLOCATION_FRAMES * 3 * frame_pixels > self._limit

    def is_nearly_fresh(self) -> bool:
        """Whether no video has taken much of it yet: the next one has the same room."""
        return self._limit - self._read("VmPeak") >= (1.0 - _FRESH_SHARE) * self._more_bytes

    def _read(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", os.pread(self._status, 8192, 0).decode("ascii"), re.MULTILINE)
        assert found  # noqa: S101  (proc(5): every process with memory has both)
        return int(found[1]) * 1024


def confine(limits: DecodeLimits) -> Memory:
    """Past the CPU limit SIGXCPU, past the memory limit failed allocations; no core file, no file of any size.

    Where memory runs out for all, the kernel is to take a decoder and not the service.
    """
    limit_cpu(limits.max_decode_cpu_seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * _LOG_BYTES, 16 * _LOG_BYTES))
    with contextlib.suppress(OSError):  # a sandbox may not let us
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_MOST, encoding="ascii")
    return Memory(limits.max_decode_memory_bytes)


def limit_cpu(more_seconds: int) -> None:
    """SIGXCPU, which ends the process, once it has used so much more than now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(
        resource.RLIMIT_CPU,
        (math.ceil(used.ru_utime + used.ru_stime) + more_seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]),
    )


def open_no_more_files() -> None:
    """A format that names other files (references, playlists) finds none; what is open stays so."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@contextlib.contextmanager
def files_may_be_opened() -> Iterator[None]:
    """The video itself, once more: to decode it another way."""
    open_files_again()
    try:
        yield
    finally:
        open_no_more_files()


def open_files_again() -> None:
    """For the next video."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def name_process(name: str) -> None:
    """As `ps` and `top` show it; at most 15 characters."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def die_with_parent() -> None:
    """SIGKILL when the parent ends (prctl(2)): when the thread that forked ends, so it must be the only one."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def _prctl(option: int, argument: ctypes.c_char_p | ctypes.c_ulong) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
