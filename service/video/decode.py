"""Walk a video and give its sampled frames in chunks.

Every frame is grabbed, in order; only the sampled ones are retrieved and converted. The presentation
timestamp is the truth, never the frame count or the nominal rate of the header. Memory is one chunk,
whatever the video's length. Training runs this in its own process, the service in one process a video
(`service.video.open_video`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from service.video.capture import Capture, ErrorLog
from service.video.clock import Clock, TimeBase
from service.video.colour import bgr_to_rgb
from service.video.container import Container, identify
from service.video.diagnosis import no_frame
from service.video.errors import CorruptVideo, TooShort
from service.video.frames import prepare
from service.video.grid import SamplingGrid
from service.video.limits import DecodeLimits
from service.video.size_watch import size_changed
from service.video.spec import ClipSpec

# A header's duration may be a rounded one, or that of a longer sound track.
_CUT_SHORT_SECONDS, _CUT_SHORT_SHARE = 0.5, 0.95


@dataclass(frozen=True)
class FrameChunk:
    """Sampled frames in presentation order.

    frames: (N, H, W, 3) uint8 RGB; ticks: (N,) int64, the grid ticks that each frame serves, all >= 1.
    The frames may lie in memory that is shared with a decoder: call `release` when they have been read.
    """

    frames: NDArray[np.uint8]
    ticks: NDArray[np.int64]
    release: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)


@dataclass(frozen=True)
class DecodeReport:
    """What was walked and used: the temporal receipt's part that decoding knows. Times in seconds.

    duration_seconds: from the stream's start to the end of the last frame walked; width, height: of the
    picture upright, stored pixels; origin_seconds: the grid's first tick.
    """

    duration_seconds: float
    width: int
    height: int
    sample_aspect_ratio: str
    codec: str
    rotation_degrees: int
    time_base: TimeBase
    frames_walked: int
    frames_decoded: int
    frames_used: int
    frames_repeated: int
    frames_dropped: int
    frames_damaged: int
    first_seconds: float
    last_seconds: float
    origin_seconds: float
    ticks: int
    warnings: tuple[str, ...] = ()


class ClipReader:
    """One pass over one video file.

    >>> with ClipReader(path, spec) as reader:            # doctest: +SKIP
    ...     for chunk in reader.chunks(16):
    ...         chunk.frames.shape                         # (<= 16, H, W, 3)
    ...     reader.report()

    log: FFmpeg's error lines, where the process keeps them; without it only undecodable packets count as
    damage. strict: the first damage raises. Raises EmptyFile, NotAVideo, NoDecodableFrame, CorruptVideo,
    SizeChanged, TooShort, TooLong, TooManyPixels, TooManyFrames.
    """

    def __init__(
        self,
        path: Path,
        spec: ClipSpec,
        *,
        start_seconds: float = 0.0,
        end_seconds: float = math.inf,
        limits: DecodeLimits | None = None,
        strict: bool = False,
        num_threads: int = 1,
        log: ErrorLog | None = None,
    ) -> None:
        self.spec = spec
        self.limits = limits or DecodeLimits()
        self.grid = SamplingGrid(spec.sample_fps, start_seconds, end_seconds)
        self._capture = Capture(path, num_threads, log)
        self.header = self._capture.header
        self._strict = strict
        self._clock = Clock(self.header.step_seconds)
        self._pixel_aspect = float(self.header.pixel_aspect)
        self._path = path
        self._container: Container | None = None
        self._to_rgb: NDArray[np.float32] | None = None
        self.limits.check_pixels(self.header.width, self.header.height)
        self.ended = False
        self._decoded = self._repeated = self._dropped = 0
        self._first_used = self._last_used = math.nan

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def describe(self, container: Container) -> None:
        """Take what the headers say; without this they are read at the first frame."""
        self._container = container
        self._to_rgb = bgr_to_rgb(container.matrix)

    def chunks(self, max_frames: int) -> Iterator[FrameChunk]:
        """Yield chunks of at most `max_frames` frames; each owns its memory."""
        if max_frames < 1:
            raise ValueError(f"max_frames is {max_frames}; a chunk holds at least 1")
        shape = (max_frames, self.spec.frame_height, self.spec.frame_width, 3)
        while not self.ended:
            frames = np.empty(shape, np.uint8)
            ticks = self.fill(frames)
            if len(ticks):
                yield FrameChunk(frames[: len(ticks)], ticks)

    def fill(self, out: NDArray[np.uint8], seconds: float = math.inf) -> NDArray[np.int64]:
        """Walk on and write sampled frames into `out`, until it is full, the video ends or `seconds` have passed.

        out: (N, frame_height, frame_width, 3) uint8. Returns the ticks (<= N,) int64 of the frames written;
        there may be none. `ended` is then whether the video has.
        """
        ticks: list[int] = []
        until = time.monotonic() + seconds
        while len(ticks) < len(out):
            if (pts := self._grab()) is None:
                self.ended = True
                self._check_enough()
                break
            due = self.grid.due(pts)
            self.limits.check_ticks(self.grid.num_ticks + due, self.spec.sample_fps)
            if due and self._retrieve(out[len(ticks)]):
                ticks.append(self.grid.take(pts))
                self._note_used(pts, due)
            if time.monotonic() > until:
                break
        return np.array(ticks, np.int64)

    @property
    def first_damage(self) -> tuple[float, str] | None:
        """Time of the last good frame before the first damage, and FFmpeg's words for it."""
        return self._capture.first_damage

    def report(self) -> DecodeReport:
        """What the pass met; meaningful once the video has ended."""
        header = self.header
        turned = header.rotation_degrees in (90, 270)
        aspect = header.pixel_aspect
        return DecodeReport(
            duration_seconds=round(self._clock.end_seconds, 6),
            width=header.height if turned else header.width,
            height=header.width if turned else header.height,
            sample_aspect_ratio=f"{aspect.numerator}:{aspect.denominator}",
            codec=header.codec,
            rotation_degrees=header.rotation_degrees,
            time_base=self._clock.time_base,
            frames_walked=self._clock.num_frames,
            frames_decoded=self._decoded + self._dropped,
            frames_used=self._decoded,
            frames_repeated=self._repeated,
            frames_dropped=self._dropped,
            frames_damaged=self._capture.damaged,
            first_seconds=round(self._first_used, 6),
            last_seconds=round(self._last_used, 6),
            origin_seconds=round(self.grid.tick_seconds(0), 6),
            ticks=self.grid.num_ticks,
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        clock, capture = self._clock, self._capture
        if clock.num_nominal:
            yield (
                f"{clock.num_nominal} of {clock.num_frames} frames had no rising timestamp; "
                f"the nominal step of {clock.step_seconds:.4f} s was used for them"
            )
        if capture.times_are_rounded:
            yield f"the stream does not say when it starts; times are rounded to the nominal {clock.step_seconds:.4f} s"
        if self._dropped:
            yield f"{self._dropped} sampled frames could not be decoded; the next ones took their place"
        if capture.first_damage:
            at, words = capture.first_damage
            lost = f", and in {capture.gaps} places frames are missing" if capture.gaps else ""
            yield f"corrupt at {at:.3f} s ({words}); {capture.damaged} of {clock.num_frames} frames are damaged{lost}"
        promised = self.header.duration_seconds
        if (
            promised
            and self.ended
            and not self.grid.ended(clock.last_seconds)
            and clock.num_frames < (self.header.num_frames or 0)
            and clock.end_seconds < min(promised * _CUT_SHORT_SHARE, promised - _CUT_SHORT_SECONDS)
        ):
            yield (
                f"the header promises {promised:.2f} s of video, {clock.end_seconds:.2f} s came: the file is cut "
                "short, or its header is wrong"
            )

    def _grab(self) -> float | None:
        """Grab the next frame; its presentation time in seconds, or None at the end."""
        if self.grid.ended(self._clock.last_seconds):
            return None
        grabbed = self._capture.grab()
        if self._strict and self._capture.first_damage:
            at, words = self._capture.first_damage
            raise CorruptVideo(
                f"the video is corrupt at {at:.3f} s ({words}); repair it, or ask without strict", value=round(at, 3)
            )
        if not grabbed:
            return None
        pts = self._clock.tick(self._capture.pts_seconds())
        self.limits.check_walk(self._clock.num_frames, pts)
        if not self.grid.ended(pts):
            self._check_size()
        return pts

    def _check_size(self) -> None:
        header, new_size = self.header, self._capture.new_size
        if new_size:
            raise size_changed(
                (header.width, header.height), new_size, self._clock.last_seconds, header.rotation_degrees
            )

    def _retrieve(self, out: NDArray[np.uint8]) -> bool:
        bgr = self._capture.retrieve()
        if bgr is None:
            self._check_size()
            self._dropped += 1
            return False
        self.limits.check_pixels(bgr.shape[1], bgr.shape[0])
        if self._container is None:
            self.describe(identify(self._path))
        prepare(bgr, self.spec, self.header.rotation_degrees, out, self._pixel_aspect, self._to_rgb)
        return True

    def _note_used(self, pts: float, ticks: int) -> None:
        if self._decoded == 0:
            self._first_used = pts
        self._last_used = pts
        self._decoded += 1
        self._repeated += ticks - 1

    def _check_enough(self) -> None:
        if self._clock.num_frames == 0 or (self._decoded == 0 and self._dropped):
            raise no_frame(self.header.codec)
        check_enough(
            self.grid.num_ticks, self.spec, (self.grid.start_seconds, self.grid.end_seconds), self._clock.end_seconds
        )


def check_enough(num_ticks: int, spec: ClipSpec, span: tuple[float, float], stream_end_seconds: float) -> None:
    """Raises TooShort when a clip has fewer ticks than the model needs. span: the start and the end asked for."""
    if num_ticks >= spec.min_frames:
        return
    start, end = span
    if num_ticks == 0 and end > start >= stream_end_seconds:
        raise TooShort(
            f"start_seconds is {start:g}, and the video ends at {stream_end_seconds:.2f} s; give an earlier start",
            value=start,
            limit=round(stream_end_seconds, 6),
        )
    remedies = ["an earlier start_seconds"] * (start > 0) + ["a later end_seconds"] * (end < stream_end_seconds)
    part = f" from {start:g} s to {min(end, stream_end_seconds):g} s" if remedies else ""
    remedy = f"give {' or '.join(remedies)}" if remedies else "send a longer clip"
    raise TooShort(
        f"the clip{part} gives {num_ticks} frames at {spec.sample_fps:g} per second, the model needs "
        f"{spec.min_frames}; {remedy}",
        value=num_ticks,
        limit=spec.min_frames,
    )
