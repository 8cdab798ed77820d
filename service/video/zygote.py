"""The zygote: one thread, cv2 loaded, nothing else. It forks a decode process for each video and tells how it ended.

`python -u -m service.video.zygote FD`, FD being a Unix socket (SOCK_SEQPACKET) from the service. Each packet is
a `DecodeRequest` with open files: the video's channel, then its segments. The one packet back is
`READY`. When a decoder ends, an `Exit` goes
to its channel; when the service closes a channel, its decoder is killed; when the service is gone, all are, and
the zygote leaves. SIGINT and SIGTERM, which a terminal or a supervisor sends to the whole group, are ignored.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2

from service.give_way import give_way
from service.video import decoder, pyav_source
from service.video.confine import die_with_parent, name_process
from service.video.decode import ClipReader
from service.video.spec import ClipSpec
from service.video.wire import MAX_MESSAGE_BYTES, READY, DecodeRequest, Exit, Reply

_MAX_DESCRIPTORS = 16
# H.264 in MP4, as most clips are; drawn by tests/draw_warm_clip.py.
_CLIP = Path(__file__).with_name("warm.mp4")
_CLIP_FRAMES = 12


class Zygote:
    """Single-threaded: `fork` copies one thread, and a lock that another held would stay locked for ever."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._channels: dict[int, socket.socket] = {}  # by the decoder's pid
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Until the service is gone."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            # In this order: a reaped channel's number may be that of the next one opened.
            self._kill_hung_up(ready)
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._open():
                self._kill_all()
                return

    def _open(self) -> bool:
        """Fork for the next request; False when there will be none."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, _MAX_DESCRIPTORS)
        except ConnectionResetError:  # it left without reading READY
            return False
        if not data:
            return False
        channel = socket.socket(fileno=descriptors[0])
        segments = descriptors[1:]
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_decoder(zygote, channel, segments, data)
        for segment in segments:
            os.close(segment)
        self._channels[pid] = channel
        self._poll.register(channel, 0)  # POLLHUP is always told
        return True

    def _become_decoder(self, zygote: int, channel: socket.socket, segments: list[int], data: bytes) -> None:
        """In the child; never returns."""
        status = 1
        try:
            die_with_parent()
            if os.getppid() != zygote:  # it died before the line above
                os._exit(status)
            name_process("decoder")
            signal.set_wakeup_fd(-1)
            for descriptor in (self._control.fileno(), self._woken, self._wake):
                os.close(descriptor)
            for other in self._channels.values():
                other.close()
            decoder.run(channel, segments, DecodeRequest.parse(data))
            status = 0
        finally:
            os._exit(status)  # no cleanup that belongs to the zygote

    def _reap(self) -> None:
        while self._channels:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            ended = Exit(
                status=os.waitstatus_to_exitcode(status),
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                max_resident_bytes=usage.ru_maxrss * 1024,
            )
            channel = self._channels.pop(pid)
            with contextlib.suppress(KeyError):  # it had hung up
                self._poll.unregister(channel)
            with contextlib.suppress(OSError), channel:  # the service may have closed it
                channel.setblocking(False)
                Reply(exit=ended).send(channel)

    def _kill_hung_up(self, ready: set[int]) -> None:
        for pid, channel in self._channels.items():
            if channel.fileno() in ready:
                self._poll.unregister(channel)
                os.kill(pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for pid in self._channels:
            os.kill(pid, signal.SIGKILL)
        for pid in list(self._channels):
            os.waitpid(pid, 0)


def _warm_up() -> None:
    """Decode a clip, so that no decoder has to: libraries, tables and caches come with the fork.

    MediaInfo's library has to be there, as a decoder may open no file by the time that it needs it.
    """
    if pyav_source.AVAILABLE:
        pyav_source.library()
    with _silenced(), ClipReader(_CLIP, ClipSpec(sample_fps=25.0, frame_height=32, frame_width=32)) as reader:
        for _ in reader.chunks(_CLIP_FRAMES):
            pass


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Of FFmpeg's lines, which `FfmpegLog` wants and nobody else."""
    kept, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
        for descriptor in (nowhere, *kept):
            os.close(descriptor)


def main(descriptor: int) -> None:
    """Serve the socket until its other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    name_process("decode-zygote")
    give_way()
    cv2.setNumThreads(1)
    _warm_up()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        sys.exit(f"the zygote has {threads} threads and must have 1; set OPENBLAS_NUM_THREADS=1")
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, every page of this heap
    with socket.socket(fileno=descriptor) as control:
        control.send(READY)
        Zygote(control).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
