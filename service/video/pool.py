"""The decode processes of one service: taken for a video, kept for the next one where the last left no trace."""

from __future__ import annotations

import socket
from pathlib import Path

from service.fairness import Priority
from service.give_way import JOB_NICE, NICE
from service.video.container import Container
from service.video.credits import Credits
from service.video.facts import ProbeFacts
from service.video.limits import DecodeLimits
from service.video.open_video import CHUNK_FRAMES, Check, OpenVideo
from service.video.spec import ClipSpec
from service.video.wire import DecodeRequest
from service.video.zygote_client import ZygoteClient


class DecodePool:
    """Decode processes of one service; threads may share it.

    >>> with DecodePool(num_credits=2) as pool, pool.open(path, spec) as clip:      # doctest: +SKIP
    ...     for chunk in clip.chunks():
    ...         chunk.frames.shape                          # (<= 16, H, W, 3), in shared memory
    ...         chunk.release()
    ...     clip.report()
    """

    def __init__(self, num_credits: int, limits: DecodeLimits | None = None, max_idle: int | None = None) -> None:
        self.credits = Credits(num_credits)
        # At their nice value they hold a turn for long where others are at work, who must not wait for it.
        self._job_credits = Credits(num_credits)
        self._header_credits = Credits(num_credits)
        self.limits = limits or DecodeLimits()
        self.zygote = ZygoteClient()
        # Channels to processes that wait for a video, by their nice value.
        self._idle: dict[int, list[socket.socket]] = {NICE: [], JOB_NICE: []}
        self._max_idle = num_credits if max_idle is None else max_idle

    def __enter__(self) -> DecodePool:
        self.zygote.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(
        self,
        path: Path,
        spec: ClipSpec,
        *,
        start_seconds: float = 0.0,
        end_seconds: float = float("inf"),
        stream: int | None = None,
        strict: bool = False,
        priority: Priority = Priority.INTERACTIVE,
        check: Check = lambda: None,
    ) -> OpenVideo:
        """A video to read, as a context manager; `check` is called while waiting and may raise (Cancelled)."""
        request = DecodeRequest(
            task="clip", path=path.absolute(), limits=self.limits, spec=spec, start_seconds=start_seconds,
            end_seconds=end_seconds, stream=stream, strict=strict, chunk_frames=CHUNK_FRAMES,
            nice=JOB_NICE if priority is Priority.JOB else NICE,
        )  # fmt: skip
        return OpenVideo(self, request, check, priority, self._job_credits if priority is Priority.JOB else None)

    def header(
        self,
        path: Path,
        *,
        stream: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        check: Check = lambda: None,
    ) -> Container:
        """What the headers say, without a frame; blocks, for no video that decodes. Raises what opening it would."""
        request = DecodeRequest(task="probe", path=path.absolute(), limits=self.limits, stream=stream)
        with OpenVideo(self, request, check, priority, self._header_credits) as video:
            return video.container

    def probe(
        self, path: Path, *, full: bool = False, stream: int | None = None, check: Check = lambda: None
    ) -> ProbeFacts:
        """What a file really is: by its header and first frames, or by a `full` walk. Blocks; nothing is inferred.

        Raises EmptyFile, NotAVideo and what ends a decode process; whatever else a prediction would refuse the
        file for is in the facts.
        """
        request = DecodeRequest(task="probe", path=path.absolute(), limits=self.limits, full=full, stream=stream)
        with OpenVideo(self, request, check, Priority.INTERACTIVE) as video:
            return video.facts()

    def waiting_process(self, request: DecodeRequest, descriptors: list[int]) -> socket.socket | None:
        """A process that waits for a video has this one now; the channel to it, or None where there is none."""
        while True:
            try:
                channel = self._idle[request.nice].pop()
            except IndexError:
                return None
            try:
                request.send(channel, descriptors)
            except OSError:  # it has gone
                channel.close()
            else:
                return channel

    def keep(self, channel: socket.socket, nice: int) -> None:
        """Its process takes another video."""
        if len(self._idle[nice]) < self._max_idle:
            self._idle[nice].append(channel)
        else:
            channel.close()

    def end_idle(self) -> None:
        """End the processes that wait for a video."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def close(self) -> None:
        """End the zygote and all decoders."""
        self.end_idle()
        self.zygote.close()
