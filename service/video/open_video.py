"""One open video, in a decode process of its own: the service's side.

A video is decoded in turns. For each, its reader waits for a credit (there are as many as cores), tells the
process which shared segment to fill, and takes what comes back. So a video whose reader does not ask is not
decoded, and memory is bounded by the segments. A process that says so takes another video; closing the channel is
the one way to end any other: failed or cancelled alike.
"""

from __future__ import annotations

import contextlib
import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.errors import ReelserveError
from service.fairness import Priority
from service.metrics import DECODERS_ENDED, VIDEOS_OPEN
from service.video.chunk import FrameChunk
from service.video.container import Container
from service.video.errors import DecoderCrashed, DecoderLost, DecodeTimeout
from service.video.facts import ProbeFacts
from service.video.report import DecodeReport
from service.video.segments import Segments
from service.video.wire import MAX_MESSAGE_BYTES, DecodeRequest, Exit, Go, Reply

if TYPE_CHECKING:
    from service.video.credits import Credits
    from service.video.pool import DecodePool

log = logging.getLogger(__name__)

# Frames of one chunk, and chunks that a consumer may hold while the next is decoded.
CHUNK_FRAMES = 16
CHUNKS_HELD = 2
# How soon a cancelled clip is let go.
_POLL_SECONDS = 0.1
# What a file can do to its decoder. Any other signal came from outside.
_CRASHES = {
    signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP,
    signal.SIGXFSZ,
}  # fmt: skip

_NAMES = {int(number): number.name for number in signal.Signals}

Check = Callable[[], None]


class OpenVideo:
    """One video in its process. Entering opens it; leaving ends the process and frees the segments.

    Raises the errors of `ClipReader` and NoVideoStream, CodecNotSupported, DecodeTimeout, DecodeMemory,
    DecoderCrashed, DecoderLost. A process lost to the outside (SIGKILL, out of memory) is replaced once, and
    decodes again what was delivered already.
    """

    def __init__(
        self,
        pool: DecodePool,
        request: DecodeRequest,
        check: Check,
        priority: Priority,
        credits_: Credits | None = None,
    ) -> None:
        """credits_: other turns than the pool's own."""
        self.container = Container()
        self.open_seconds = self.cpu_seconds = 0.0  # the latter of the process that came to the end
        self._pool = pool
        self._request = request
        self._check = check
        self._priority = priority
        self._credits = credits_ or pool.credits
        self._channel: socket.socket | None = None
        self._replaced = self._reusable = self._is_fresh = False
        self._delivered = self._skip = 0
        self._report: DecodeReport | None = None
        self._waiting: tuple[int, Reply] | None = None
        spec = request.spec
        height, width = (spec.frame_height, spec.frame_width) if spec else (1, 1)  # a probe gives no frames
        self._segments = Segments(CHUNKS_HELD + 1, (request.chunk_frames, height, width, 3))

    def __enter__(self) -> OpenVideo:
        self._share = self._credits.share(self._priority)
        VIDEOS_OPEN.inc()
        try:
            try:
                self._start()
            except DecoderLost as lost:
                self._replace(lost)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if self._channel and self._reusable and exc is None:
            self._pool.keep(self._channel, self._request.nice)
        elif self._channel:
            self._channel.close()
        self._segments.close()
        VIDEOS_OPEN.dec()
        DECODERS_ENDED.labels(exc.code if isinstance(exc, ReelserveError) else "aborted" if exc else "done").inc()

    def chunks(self) -> Iterator[FrameChunk]:
        """Chunks as they are decoded. At most `CHUNKS_HELD` may be held when the next is asked for; release them."""
        while self._report is None:
            segment, reply = self._take()
            first = min(self._skip, len(reply.ticks))
            self._skip -= first
            fresh = len(reply.ticks) - first
            if fresh:
                self._delivered += fresh
                yield FrameChunk(
                    self._segments.frames(segment)[first : len(reply.ticks)],
                    np.array(reply.ticks[first:], np.int64),
                    np.array(reply.seconds[first:], np.float64),
                    partial(self._segments.give_back, segment),
                )
            else:
                self._segments.give_back(segment)
            self._report = reply.report
            self.cpu_seconds, self._reusable = reply.cpu_seconds, reply.reusable

    def batches(self, num_frames: int) -> Iterator[FrameChunk]:
        """The same frames, so many at a time, the last ones fewer, however turns cut them; copied."""
        frames: list[NDArray[np.uint8]] = []
        ticks: list[int] = []
        seconds: list[float] = []
        for chunk in self.chunks():
            frames.extend(chunk.frames.copy())
            ticks += chunk.ticks.tolist()
            seconds += chunk.seconds.tolist()
            chunk.release()
            while len(frames) >= num_frames:
                yield _chunk_of(frames[:num_frames], ticks[:num_frames], seconds[:num_frames])
                del frames[:num_frames], ticks[:num_frames], seconds[:num_frames]
        if frames:
            yield _chunk_of(frames, ticks, seconds)

    @property
    def busy_seconds(self) -> float:
        """How long its process has been decoding."""
        return self._share.busy_seconds

    @property
    def waited_seconds(self) -> float:
        """How long it has waited for a core."""
        return self._share.waited_seconds

    def facts(self) -> ProbeFacts:
        """Of a probe: what it has found out, in as many turns as it takes."""
        while True:
            segment, reply = self._take()
            self._segments.give_back(segment)
            if reply.facts is not None:
                return reply.facts

    def report(self) -> DecodeReport:
        """What the pass met; once `chunks` is exhausted."""
        if self._report is None:
            raise ValueError("the video has not ended yet; exhaust chunks() first")
        return self._report

    def _start(self) -> None:
        """A process for the video, and its first turn, which opens it and gives its first frames."""
        again = self._request.task == "clip" and not self._replaced
        waiting = self._pool.waiting_process(self._request, self._segments.descriptors) if again else None
        self._is_fresh = waiting is None
        self._channel = waiting or self._pool.zygote.fork(self._request, self._segments.descriptors)
        segment = self._segments.take()
        try:
            reply = self._turn(Go(segment=segment))
        except DecoderLost:
            self._segments.give_back(segment)
            raise
        self.container = reply.container or Container()
        self.open_seconds += reply.open_seconds
        self._waiting = (segment, reply)

    def _take(self) -> tuple[int, Reply]:
        """The next reply, and the segment that it filled."""
        if self._waiting is None:
            segment = self._segments.take()
            try:
                return segment, self._turn(Go(segment=segment))
            except DecoderLost as lost:
                self._segments.give_back(segment)
                self._replace(lost)
        assert self._waiting is not None  # noqa: S101  (a start leaves one)
        waiting, self._waiting = self._waiting, None
        return waiting

    def _replace(self, lost: DecoderLost) -> None:
        """Begin again in another process, once; what was delivered will be passed over."""
        if self._replaced:
            raise lost
        log.warning("%s; it is replaced", lost.detail)
        DECODERS_ENDED.labels("replaced").inc()
        self._replaced = True
        self._skip = self._delivered
        if self._channel:
            self._channel.close()
        self._start()

    def _turn(self, go: Go) -> Reply:
        assert self._channel is not None  # noqa: S101  (only between entering and leaving)
        with self._credits.turn(self._share, self._check):
            started = time.monotonic()
            with contextlib.suppress(OSError):  # it has ended, and the channel holds how
                go.send(self._channel)
            reply = self._receive(self._channel, started)
        if reply.exit:
            raise self._how_it_ended(reply.exit)
        if reply.fault:
            if reply.fault.trace:
                log.error("the decoder of %s failed: %s", self._request.path.name, reply.fault.trace)
            raise reply.fault.error()
        limit = self._request.limits.max_decode_seconds
        if self._share.busy_seconds > limit:
            raise DecodeTimeout(
                f"decoding takes more than {limit:g} s; cut the video, or raise max_decode_seconds",
                value=round(self._share.busy_seconds, 3),
                limit=limit,
            )
        return reply

    def _receive(self, channel: socket.socket, started: float) -> Reply:
        limit = self._request.limits.max_decode_stall_seconds
        readable = select.poll()
        readable.register(channel, select.POLLIN)
        while not readable.poll(_POLL_SECONDS * 1e3):
            self._check()
            if time.monotonic() - started > limit:
                raise DecodeTimeout(
                    f"the decoder has hung for {limit:g} s on the video; re-encode it, or raise "
                    "max_decode_stall_seconds",
                    limit=limit,
                )
        try:
            data = channel.recv(MAX_MESSAGE_BYTES)
        except ConnectionResetError:  # told first, when it ended without reading the turn; how it ended comes next
            data = channel.recv(MAX_MESSAGE_BYTES)
        if not data:
            raise DecoderLost("the decode processes were lost; try again")
        return Reply.parse(data)

    def _how_it_ended(self, ended: Exit) -> ReelserveError:
        limit = self._request.limits.max_decode_cpu_seconds
        if ended.status == -signal.SIGXCPU:
            return DecodeTimeout(
                f"decoding takes more than {limit} s of CPU time; cut the video, or raise max_decode_cpu_seconds",
                value=round(ended.cpu_seconds, 3),
                limit=limit,
            )
        if ended.status >= 0:
            return ReelserveError(f"a decode process left with status {ended.status} and said nothing")
        name = _NAMES.get(-ended.status, f"signal {-ended.status}")
        if -ended.status in _CRASHES and self._is_fresh:
            return DecoderCrashed(
                f"the video crashed its decoder ({name}); re-encode it, for example: "
                "ffmpeg -i INPUT -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4",
                value=name,
            )
        # Or it crashed, and had a video before this one: which of them is to blame, a fresh process will tell.
        return DecoderLost(f"a decode process was killed from outside ({name}); try again", value=name)


def _chunk_of(frames: list[NDArray[np.uint8]], ticks: list[int], seconds: list[float]) -> FrameChunk:
    return FrameChunk(np.stack(frames), np.array(ticks, np.int64), np.array(seconds, np.float64))
