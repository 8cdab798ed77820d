"""Walk a video and give its sampled frames in chunks.

Every frame is grabbed, in order; only the sampled ones are retrieved and converted. The presentation
timestamp is the truth, never the frame count or the nominal rate of the header. Memory is one chunk and a frame,
whatever the video's length. Service, training and export run it in one process a video (`service.video.open_video`).

A tick belongs to the frame that is shown then, so whom a frame serves is known once the next one has come. Which
frames will be asked for is foretold from the steps between frames; where that was wrong (a picture held for longer),
the video is decoded a second time up to there, and from then on every frame is retrieved: only a variable rate pays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from service.video import sources
from service.video.chunk import NO_TIMES, FrameChunk
from service.video.clock import Clock
from service.video.container import Container, identify
from service.video.diagnosis import no_frame
from service.video.ending import Ending
from service.video.errors import CorruptVideo
from service.video.foresight import Foresight
from service.video.frames import prepare
from service.video.grid import grid_of
from service.video.limits import DecodeLimits
from service.video.report import DecodeReport, check_enough, met
from service.video.source import ErrorLog, Header, InterlacedFrame, Source
from service.video.spec import ClipSpec


class ClipReader:
    """One pass over one video file.

    >>> with ClipReader(path, spec) as reader:            # doctest: +SKIP
    ...     for chunk in reader.chunks(16):
    ...         chunk.frames.shape                         # (<= 16, H, W, 3)
    ...     reader.report()

    container: what the headers say, read here where it is not given; stream: which of the file's video streams, for
    that reading. log: FFmpeg's error lines, where the process keeps them; without it only undecodable packets count
    as damage. strict: the first damage raises. opening: entered around whatever opens the file again. Raises
    EmptyFile, NotAVideo, NoVideoStream, NoSuchStream, CodecNotSupported, NoDecodableFrame, CorruptVideo, RegionOutside,
    TooShort, PastTheEnd, TooLong, TooManyPixels, TooManyFrames.
    """

    def __init__(
        self,
        path: Path,
        spec: ClipSpec,
        *,
        start_seconds: float = 0.0,
        end_seconds: float = math.inf,
        stream: int | None = None,
        limits: DecodeLimits | None = None,
        strict: bool = False,
        num_threads: int = 1,
        log: ErrorLog | None = None,
        container: Container | None = None,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.spec = spec
        self.limits = limits or DecodeLimits()
        self.grid = grid_of(spec.sample_fps, start_seconds, end_seconds)
        self.container = identify(path, stream) if container is None else container
        self._path, self._num_threads, self._log, self._opening = path, num_threads, log, opening
        self._source: Source = sources.open_source(path, self.container, num_threads, log)
        self.header: Header = self._source.header
        self._strict = strict
        self._clock = Clock(self.header.step_seconds, self.limits.max_hold_seconds)
        self._ending = Ending(self.container, self.header)
        self.limits.check_pixels(self.header.width, self.header.height)
        if spec.region is not None:
            spec.region.pixels(self.header.width, self.header.height)
        self.ended = False
        # The frame whose ticks are not known yet, and its picture where it was retrieved.
        self._pending = False
        self._picture: NDArray[np.uint8] | None = None
        self._retrieved = False
        # A frame after the pending one was grabbed, and its time is the clock's; or there is none.
        self._ahead = self._at_end = False
        self._foresight = Foresight(self._clock, holds_pictures=self._ending.holds_pictures)
        self._catch_up = 0
        self._decoded = self._repeated = self._dropped = 0
        self._first_used = self._last_used = math.nan

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.release()

    def chunks(self, max_frames: int) -> Iterator[FrameChunk]:
        """Yield chunks of at most `max_frames` frames; each owns its memory."""
        if max_frames < 1:
            raise ValueError(f"max_frames is {max_frames}; a chunk holds at least 1")
        shape = (max_frames, self.spec.frame_height, self.spec.frame_width, 3)
        while not self.ended:
            chunk = self.fill(np.empty(shape, np.uint8))
            if len(chunk.ticks):
                yield chunk

    def fill(self, out: NDArray[np.uint8], seconds: float = math.inf) -> FrameChunk:
        """Walk on and write sampled frames into `out`, until it is full, the video ends or `seconds` have passed.

        out: (N, frame_height, frame_width, 3) uint8. Returns the frames written, a view of it; there may be none.
        `ended` is then whether the video has.
        """
        ticks: list[int] = []
        times: list[float] | None = [] if self.spec.sample_fps is None else None
        until = time.monotonic() + seconds
        while len(ticks) < len(out) and not self.ended:
            if self._catch_up:
                self._catch_up_one()
            else:
                if not self._ahead and not self._at_end:
                    self._advance()
                if served := self._settle(out[len(ticks)]):
                    ticks.append(served)
                    if times is not None:
                        times.append(self._last_used)
            if time.monotonic() > until:
                break
        own = NO_TIMES if times is None else np.array(times, np.float64)
        return FrameChunk(out[: len(ticks)], np.array(ticks, np.int64), own)

    @property
    def first_damage(self) -> tuple[float, str] | None:
        """Time of the last good frame before the first damage, and FFmpeg's words for it."""
        return self._source.first_damage

    def report(self) -> DecodeReport:
        """What the pass met; meaningful once the video has ended."""
        header, (width, height) = self.header, self.header.upright_size
        if self.grid.origin_seconds is None:
            raise ValueError("no frame has come yet; exhaust chunks() first")
        return DecodeReport(
            duration_seconds=round(self._end_seconds(), 6),
            stream_start_seconds=self.container.start_seconds,
            width=width,
            height=height,
            sample_aspect_ratio=header.sample_aspect_ratio,
            codec=header.codec,
            decoder=header.decoder,
            rotation_degrees=header.orientation.rotation_degrees,
            mirrored=header.orientation.mirrored,
            time_base=self._clock.time_base,
            frames_walked=self._clock.num_frames,
            frames_decoded=self._decoded + self._dropped,
            frames_used=self._decoded,
            frames_repeated=self._repeated,
            frames_dropped=self._dropped,
            frames_damaged=self._source.damaged,
            first_seconds=round(self._first_used, 6),
            last_seconds=round(self._last_used, 6),
            origin_seconds=round(self.grid.origin_seconds, 6),
            ticks=self.grid.num_ticks,
            ticks_end_seconds=round(self._ticks_end_seconds(), 6),
            warnings=(*self._first_words(), *self._last_words()),
        )

    def _first_words(self) -> Iterator[str]:
        return met(self._clock, self._source, self._dropped, self.spec, says_interlaced=self.container.interlaced)

    def _last_words(self) -> Iterator[str]:
        return self._ending.warnings(self._clock, is_damaged=self._source.gaps > 0) if self._at_end else iter(())

    def _end_seconds(self) -> float:
        """When the last frame's showing ends; of a pass that stopped before the end, that of the last frame seen."""
        if not self._at_end:
            return self._clock.end_seconds()
        return self._ending.seconds(self._clock, is_damaged=self._source.gaps > 0)

    def _ticks_end_seconds(self) -> float:
        end = self.grid.ticks_end_seconds
        return min(end, self._end_seconds()) if self._at_end else end

    def _advance(self) -> None:
        """Grab the next frame, or find that there is none."""
        clock = self._clock
        if not self._grab(self._source):
            self._at_end = True
            return
        at = clock.tick(self._source.pts_seconds())
        self.limits.check_walk(clock.num_frames, at)
        self._foresight.learn()
        self._ahead = True

    def _grab(self, source: Source) -> bool:
        grabbed = source.grab()
        if self._strict and source.first_damage:
            at, words = source.first_damage
            raise CorruptVideo(
                f"the video is corrupt at {at:.3f} s ({words}); repair it, or ask without strict", value=round(at, 3)
            )
        return grabbed

    def _settle(self, out: NDArray[np.uint8]) -> int:
        """Now that it is known how long the pending frame is shown: its ticks, and its picture into `out`.

        Returns 0 where it serves none, or its picture must be fetched first.
        """
        served = 0
        if self._pending:
            since = self._clock.last_seconds if self._at_end else self._clock.previous_seconds
            until = self._end_seconds() if self._at_end else self._clock.last_seconds
            if due := self.grid.due(since, until):
                self.limits.check_ticks(self.grid.num_ticks + due, self.spec.sample_fps)
                if not self._retrieved:
                    self._decode_again()
                    return 0
                served = self._take(since, until, out)
        self._pending, self._picture, self._retrieved = False, None, False
        if self._at_end or self.grid.exhausted:
            self.ended = True
            self._check_enough()
        else:
            self._ahead = False
            self._hold()
        return served

    def _hold(self) -> None:
        """The frame grabbed last is pending now; its picture is taken where it will be asked for."""
        self._pending = True
        if self.grid.awaits(self._foresight.until_seconds):
            self._retrieve()

    def _retrieve(self) -> None:
        try:
            self._picture = self._source.retrieve()
        except InterlacedFrame:
            self._decode_again(interlaced=True)
            return
        self._retrieved = True

    def _decode_again(self, *, interlaced: bool = False) -> None:
        """From the start to the pending frame: its picture has gone, or OpenCV can't convert it."""
        if not interlaced:
            self._foresight.failed()
        self._source.release()
        with self._opening():
            if interlaced or self.header.decoder == "pyav":
                self._source = sources.pyav(
                    self._path, self.container, "interlaced video", self._num_threads, self._log
                )
            else:
                self._source = sources.open_source(self._path, self.container, self._num_threads, self._log)
        self.header = self._source.header
        self._catch_up = self._clock.num_frames - self._ahead

    def _catch_up_one(self) -> None:
        """A frame further to the pending one; and over what came after it: the next one, or the end."""
        self._catch_up -= 1
        grabbed = self._grab(self._source)
        if self._catch_up:
            return
        if grabbed:
            self._retrieve()
        self._retrieved = True
        if (self._ahead or self._at_end) and not self._catch_up:
            self._grab(self._source)

    def _take(self, since: float, until: float, out: NDArray[np.uint8]) -> int:
        """Where the frame could not be converted, the next one takes its ticks."""
        if self._picture is None:
            self._dropped += 1
            return 0
        self.limits.check_pixels(self._picture.shape[1], self._picture.shape[0])
        prepare(self._picture, self.spec, self.header.orientation, out, float(self.header.pixel_aspect))
        ticks = self.grid.take(since, until)
        if self._decoded == 0:
            self._first_used = since
        self._last_used = since
        self._decoded += 1
        self._repeated += ticks - 1
        return ticks

    def _check_enough(self) -> None:
        if self._clock.num_frames == 0 or (self._decoded == 0 and self._dropped):
            raise no_frame(self.header.codec)
        end_seconds = self._end_seconds() if self._at_end else math.inf
        check_enough(self.grid.num_ticks, self.spec, (self.grid.start_seconds, self.grid.end_seconds), end_seconds)
