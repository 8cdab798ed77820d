"""A decode process: a fork of the zygote, for one video at a time. It decodes when it is given a turn."""

from __future__ import annotations

import mmap
import os
import socket
import threading
import time
import traceback
from typing import Any, Protocol

import cv2
import numpy as np

from service.errors import ReelserveError
from service.give_way import NICE, give_way
from service.video.confine import (
    FfmpegLog,
    Memory,
    confine,
    files_may_be_opened,
    limit_cpu,
    name_process,
    open_files_again,
    open_no_more_files,
)
from service.video.container import Container
from service.video.decode import ClipReader
from service.video.diagnosis import explain, no_frame
from service.video.errors import (
    CodecNotSupported,
    DecodeMemory,
    NoDecodableFrame,
    NotAVideo,
    NoVideoStream,
    VideoError,
)
from service.video.facts import ProbeFacts
from service.video.identify_soon import identify_soon
from service.video.limits import DecodeLimits
from service.video.probe import Prober, unopened
from service.video.report import DecodeReport
from service.video.wire import MAX_MESSAGE_BYTES, DecodeRequest, Fault, Go, Reply

# A turn is short, so that a clip that has just come waits little for its first.
TURN_SECONDS = 0.025


# A process takes so many videos: what a decoder may leak is bounded.
_MAX_VIDEOS = 64
_MAX_DESCRIPTORS = 16


class Task(Protocol):
    """Work on one video in turns."""

    def turn(self, go: Go) -> Reply:
        """At most about `TURN_SECONDS` of it. Raises ReelserveError."""

    def close(self) -> None:
        """Let go of the video and its segments."""


def run(channel: socket.socket, segments: list[int], request: DecodeRequest) -> None:
    """Decode a video, and others after it, until one of them was not quite clean or the service has gone.

    Most of a process's cost is its start: a fork and the pages that it copies. A video without any damage, complaint
    or hunger leaves it as good as new; after any other it ends, and what that did to it ends with it.
    """
    log = FfmpegLog()
    memory = confine(request.limits)
    if request.nice > NICE:
        give_way(request.nice)
    try:
        for number in range(1, _MAX_VIDEOS + 1):
            may_go_on = number < _MAX_VIDEOS and request.task == "clip"
            task: Task = (
                ProbeTask(request, log, memory)
                if request.task == "probe"
                else ClipTask(request, segments, log, memory, may_go_on=may_go_on)
            )
            if not _serve(channel, task, request.limits):
                return
            task.close()
            name_process("decoder-idle")
            open_files_again()
            if (more := _next_video(channel)) is None:
                return
            request, segments = more
            name_process("decoder")
            limit_cpu(request.limits.max_decode_cpu_seconds)
    except OSError:  # the service has gone, and with it the need
        return


def _serve(channel: socket.socket, task: Task, limits: DecodeLimits) -> bool:
    """Answer each `Go` with a `Reply`; returns whether the process was said to take another video.

    Every fault of the file becomes a `Fault`; what kills the process is told by its parent.
    """
    while data := channel.recv(MAX_MESSAGE_BYTES):
        reply = _guarded(task, Go.parse(data), limits)
        reply.send(channel)
        if reply.ended or reply.fault:
            return reply.reusable
    return False


def _next_video(channel: socket.socket) -> tuple[DecodeRequest, list[int]] | None:
    data, segments, _, _ = socket.recv_fds(channel, MAX_MESSAGE_BYTES, _MAX_DESCRIPTORS)
    return (DecodeRequest.parse(data), segments) if data else None


class ClipTask:
    """One `ClipReader`, turn by turn; the first turn opens it."""

    def __init__(
        self, request: DecodeRequest, segments: list[int], log: FfmpegLog, memory: Memory, *, may_go_on: bool
    ) -> None:
        assert request.spec is not None  # noqa: S101  (the pool's request of a clip has one)
        shape = (request.chunk_frames, request.spec.frame_height, request.spec.frame_width, 3)
        self._segments = segments
        self._frames = [np.frombuffer(mmap.mmap(segment, 0), np.uint8).reshape(shape) for segment in segments]
        self._may_go_on = may_go_on
        self._cpu_before = time.process_time()
        self._request = request
        self._spec = request.spec
        self._log = log
        self._memory = memory
        self._reader: ClipReader | None = None
        self._container = Container()

    def turn(self, go: Go) -> Reply:
        """Open the video if it is not, and fill a segment; the last reply has the report."""
        started = time.monotonic()
        said: dict[str, Any] = {}
        if self._reader is None:
            self._reader = self._open()
            said = {"container": self._container, "open_seconds": time.monotonic() - started}
        try:
            chunk = self._reader.fill(self._frames[go.segment], TURN_SECONDS - (time.monotonic() - started))
        except NoDecodableFrame as error:
            self._check_memory(self._reader)
            damage = self._reader.first_damage
            raise explain(error, self._container, damage and damage[1]) from error
        said |= {"ticks": chunk.ticks.tolist(), "seconds": chunk.seconds.tolist()}
        if not self._reader.ended:
            return Reply(**said)
        self._check_memory(self._reader)
        report = self._reader.report()
        return Reply(
            ended=True, report=report, cpu_seconds=time.process_time() - self._cpu_before,
            reusable=self._may_go_on and self._left_no_trace(report), **said,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the video and its segments."""
        if self._reader:
            self._reader.__exit__(None, None, None)
        self._frames = []
        for segment in self._segments:
            os.close(segment)

    def _left_no_trace(self, report: DecodeReport) -> bool:
        """Not a word of complaint, no thread that hangs on the headers, and no memory to speak of."""
        return (
            not (report.warnings or report.frames_damaged or report.frames_dropped)
            and not self._container.truncated
            and self._log.take() is None
            and threading.active_count() == 1
            and self._memory.is_nearly_fresh()
        )

    def _check_memory(self, reader: ClipReader) -> None:
        """Raises MemoryError when the walk may have ended for want of it."""
        if self._memory.exhausted(reader.header.width * reader.header.height):
            raise MemoryError

    def _open(self) -> ClipReader:
        request = self._request
        self._container = _identified(request)
        try:
            with files_may_be_opened():
                return ClipReader(
                    request.path, self._spec, start_seconds=request.start_seconds, end_seconds=request.end_seconds,
                    limits=request.limits, strict=request.strict, log=self._log, container=self._container,
                    opening=files_may_be_opened,
                )  # fmt: skip
        except NotAVideo as error:
            raise explain(error, self._container, error.words) from error


class ProbeTask:
    """One `Prober`, turn by turn: the first opens, the second measures, the others walk; the last has the facts.

    A file that a prediction would refuse is an answer here, as long as its headers name a video or its container;
    NotAVideo, EmptyFile and what ends the process stay errors.
    """

    def __init__(self, request: DecodeRequest, log: FfmpegLog, memory: Memory) -> None:
        self._request = request
        self._log = log
        self._memory = memory
        self._prober: Prober | None = None
        self._unopened: ProbeFacts | None = None
        self._measured = False
        self._container = Container()

    def turn(self, go: Go) -> Reply:  # noqa: ARG002  (a probe fills no segment)
        """Open, measure or walk on."""
        if self._unopened:
            return Reply(ended=True, facts=self._unopened)
        if self._prober is None:
            self._open()
            return Reply(container=self._container)
        if not self._measured:
            self._measured = True
            self._prober.measure(TURN_SECONDS)
        else:
            self._prober.walk(TURN_SECONDS)
        if self._request.full and not self._prober.ended:
            return Reply()
        return Reply(ended=True, facts=self._facts(self._prober))

    def close(self) -> None:
        """A process that probed takes no other video."""

    def _open(self) -> None:
        request = self._request
        self._container = _identified(request)
        try:
            with files_may_be_opened():
                self._prober = Prober(request.path, request.limits, self._log, self._container, files_may_be_opened)
        except NotAVideo as error:
            why = explain(error, self._container, error.words)
            if isinstance(why, NotAVideo):
                raise why from error
            self._unopened = unopened(self._container, why)
        except (NoVideoStream, NoDecodableFrame, CodecNotSupported) as error:
            self._unopened = unopened(self._container, error)

    def _facts(self, prober: Prober) -> ProbeFacts:
        if prober.ended and self._memory.exhausted(prober.header.width * prober.header.height):
            raise MemoryError
        if not prober.gave_nothing:
            return prober.facts()
        damage = prober.first_damage
        return prober.facts(explain(no_frame(prober.header.codec), self._container, damage and damage[1]))


def _identified(request: DecodeRequest) -> Container:
    """By a process that can't open what the headers may name."""
    with request.path.open("rb") as file:
        open_no_more_files()
        return identify_soon(file, request.stream)


def _guarded(task: Task, go: Go, limits: DecodeLimits) -> Reply:
    try:
        return task.turn(go)
    except ReelserveError as error:
        fault = Fault(code=error.code, detail=error.detail, value=error.value, limit=error.limit)
    except MemoryError:
        fault = _memory_fault(limits)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            fault = _memory_fault(limits)
        else:
            fault = Fault(code=VideoError.code, detail=f"OpenCV gives up on the video ({error.err}); re-encode it")
    except Exception as error:  # noqa: BLE001  (the service logs it: this process has no other voice)
        fault = Fault(code=ReelserveError.code, detail=str(error), trace=traceback.format_exc())
    return Reply(fault=fault)


def _memory_fault(limits: DecodeLimits) -> Fault:
    return Fault(
        code=DecodeMemory.code,
        detail=f"decoding needs more than {limits.max_decode_memory_bytes} bytes; scale the video down, or raise "
        "max_decode_memory_bytes",
        limit=limits.max_decode_memory_bytes,
    )
