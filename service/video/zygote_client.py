"""Start the zygote and ask it for decode processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from service.errors import NotReady
from service.video.wire import READY, DecodeRequest

_ROOT = Path(__file__).resolve().parents[2]
# A fork copies one thread; a pool's lock that another held would stay locked.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


class ZygoteClient:
    """One zygote process, started at the first need and again when it was lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._greeted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start it and wait until it is warm. Raises NotReady when it does not come up (its reason is on stderr)."""
        with self._lock:
            control = self._running()
            control.settimeout(_START_SECONDS)
            try:
                if self._greeted or control.recv(len(READY)) == READY:
                    self._greeted = True
                    return
            except OSError:  # a timeout is one
                pass
            finally:
                control.settimeout(None)
            self._stop()
        raise NotReady("the decode processes do not start; the log has the reason")

    def fork(self, request: DecodeRequest, segments: list[int]) -> socket.socket:
        """A new decode process; returns the channel to it, whose closing ends it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            try:
                request.send(self._running(), [theirs.fileno(), *segments])
            except OSError:  # it died since the last one
                self._stop()
                request.send(self._running(), [theirs.fileno(), *segments])
        return ours

    def close(self) -> None:
        """End the zygote, and with it every decoder."""
        with self._lock:
            self._stop()

    @property
    def pid(self) -> int | None:
        """Of the running zygote."""
        return self._process.pid if self._process else None

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        self._greeted = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            **_ONE_THREAD,
            # A thread's own arena would count against RLIMIT_AS with 64 MiB.
            "MALLOC_ARENA_MAX": "1",
            # Errors, for `FfmpegLog`.
            "OPENCV_FFMPEG_LOGLEVEL": "16",
            "OPENCV_LOG_LEVEL": "SILENT",
        }
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  (this interpreter, this module)
                [sys.executable, "-u", "-m", "service.video.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=_ROOT,
            )
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None
