"""Find out what a video really is: its header first, then every frame where that is asked for; nothing is inferred.

It runs in the decode process, turn by turn, as `service.video.decode` does. Memory is bounded, whatever the
video's length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from service.video import sources
from service.video.container import Container, identify
from service.video.ending import Ending
from service.video.errors import CodecNotSupported, TooLong, TooManyFrames, TooManyPixels, VideoError
from service.video.facts import Damage, ProbeFacts, Promise, Refusal, Speed, Walk
from service.video.limits import DecodeLimits
from service.video.source import ErrorLog, Header, InterlacedFrame, Source
from service.video.walk import Tally

# Frames that tell how fast the file decodes here; every third is also converted.
_MEASURED_FRAMES, _CONVERTED_EVERY = 25, 3


class Prober:
    """One pass over one file. Raises what `sources.open_source` does. opening: as of `ClipReader`.

    >>> prober = Prober(path, DecodeLimits())            # doctest: +SKIP
    >>> prober.measure(0.025)                             # the first frames, and how fast they come
    >>> while not prober.ended: prober.walk(0.025)        # the others
    >>> prober.facts()
    """

    def __init__(
        self,
        path: Path,
        limits: DecodeLimits,
        log: ErrorLog | None = None,
        container: Container | None = None,
        opening: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.container = identify(path) if container is None else container
        self._path, self._log, self._opening = path, log, opening
        self._source: Source = sources.open_source(path, self.container, 1, log)
        self._limits = limits
        self.header = self._source.header
        self._ending = Ending(self.container, self.header)
        self._tally = Tally(self.header.step_seconds, limits.max_hold_seconds)
        self._start_seconds = self._decode_seconds = self._convert_seconds = 0.0
        self._measured = self._converted = 0
        self._refused: VideoError | None = None
        self.ended = False
        try:
            limits.check_pixels(self.header.width, self.header.height)
        except TooManyPixels as error:  # not one frame of it is decoded
            self._refuse(error)

    def measure(self, seconds: float) -> None:
        """The first frames: at least two, at most 25, and no more when `seconds` have passed."""
        self._start()
        until = time.monotonic() + seconds
        while not self.ended and self._tally.num_frames < _MEASURED_FRAMES:
            self._decode_seconds += self._timed(self._grab)
            if self.ended:
                return
            self._measured += 1
            if self._measured % _CONVERTED_EVERY == 1:
                self._convert_seconds += self._timed(self._convert)
                self._converted += 1
            if time.monotonic() > until:
                return

    def walk(self, seconds: float) -> None:
        """Further frames, until the video has `ended`, a limit is met or `seconds` have passed."""
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            self._grab()

    @property
    def first_damage(self) -> tuple[float, str] | None:
        """Time of the last good frame before the first damage, and FFmpeg's words for it."""
        return self._source.first_damage

    @property
    def gave_nothing(self) -> bool:
        """Whether the file ended without a frame."""
        return self.ended and not self._refused and not self._tally.num_frames

    def facts(self, no_frame: VideoError | None = None) -> ProbeFacts:
        """All that is known by now. no_frame: why `gave_nothing`."""
        header, tally, refused = self.header, self._tally, no_frame or self._refused
        width, height = header.upright_size
        return _headers(self.container).model_copy(
            update={
                "codec": header.codec,
                "decoder": header.decoder,
                "width": width,
                "height": height,
                "sample_aspect_ratio": header.sample_aspect_ratio,
                "rotation_degrees": header.orientation.rotation_degrees,
                "mirrored": header.orientation.mirrored,
                "header": _promise(header, self._ending, self.container),
                "decodable": tally.num_frames > 0,
                "refusal": refused and _refusal(refused),
                "speed": self._speed(),
                "damage": self._damage(),
                "walk": self._walk(complete=not refused) if self.ended and tally.num_frames else None,
            }
        )

    def _walk(self, *, complete: bool) -> Walk:
        clock = self._tally.clock
        ended = self._ending.seconds(clock, is_damaged=self._source.gaps > 0) if complete else clock.end_seconds()
        return self._tally.walk(ended, complete=complete)

    def _start(self) -> None:
        """The first frame pays for those that are decoded before it is shown, and for tables (HDR: 2 s)."""
        if not self.ended:
            self._start_seconds = self._timed(self._grab)
        if not self.ended:
            self._start_seconds += self._timed(self._convert)

    @staticmethod
    def _timed(work: Callable[[], None]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    def _grab(self) -> None:
        if not self._source.grab():
            self.ended = True
            return
        pts = self._tally.add(self._source.pts_seconds(), intra=self._source.is_intra())
        try:
            self._limits.check_walk(self._tally.num_frames, pts)
        except (TooLong, TooManyFrames) as error:
            self._refuse(error)

    def _convert(self) -> None:
        try:
            bgr = self._source.retrieve()
        except InterlacedFrame:
            self._switch()
            return
        if bgr is None:
            return
        try:
            self._limits.check_pixels(bgr.shape[1], bgr.shape[0])
        except TooManyPixels as error:
            self._refuse(error)

    def _switch(self) -> None:
        """To PyAV, from the start to the frame that OpenCV can't convert."""
        self._source.release()
        try:
            with self._opening():
                self._source = sources.pyav(self._path, self.container, "interlaced video", 1, self._log)
        except CodecNotSupported as error:
            self._refuse(error)
            return
        self.header = self._source.header
        for _ in range(self._tally.num_frames):
            self._source.grab()

    def _refuse(self, error: VideoError) -> None:
        self._refused = error
        self.ended = True

    def _speed(self) -> Speed | None:
        if not self._measured or not self._converted:
            return None
        return Speed(
            start_milliseconds=round(self._start_seconds * 1e3, 4),
            frames=self._measured,
            decode_milliseconds=round(self._decode_seconds / self._measured * 1e3, 4),
            convert_milliseconds=round(self._convert_seconds / self._converted * 1e3, 4),
        )

    def _damage(self) -> Damage | None:
        if self._source.first_damage is None:
            return None
        at, words = self._source.first_damage
        return Damage(first_seconds=round(at, 6), words=words, frames=self._source.damaged, gaps=self._source.gaps)


def unopened(container: Container, error: VideoError) -> ProbeFacts:
    """The facts of a file that MediaInfo knows and FFmpeg can't open, for this reason."""
    return _headers(container).model_copy(update={"refusal": _refusal(error)})


def _headers(container: Container) -> ProbeFacts:
    return ProbeFacts(
        container=container.format,
        tracks=container.kinds,
        codec=container.codec,
        codec_profile=container.codec_profile,
        pixel_format=container.pixel_format,
        bit_depth=container.bit_depth,
        width=container.width,
        height=container.height,
        scan=container.scan,
        hdr=container.hdr,
        encryption=container.encryption,
        video_streams=tuple(map(str, container.streams)),
        num_films=container.num_films,
        second_file_byte=container.second_file_byte,
        stream=container.stream,
        stream_start_seconds=container.start_seconds,
        index_first=container.streamable,
        truncated=container.truncated,
        header=Promise(num_frames=container.num_frames, duration_seconds=container.duration_seconds),
    )


# Formats that say how many frames each track has.
_COUNTED = ("MPEG-4", "QuickTime", "AVI")


def _promise(header: Header, ending: Ending, container: Container) -> Promise:
    """The stream's own; where a longer sound may have made FFmpeg's reading, MediaInfo's, or none."""
    seconds = ending.stream_seconds or container.duration_seconds
    # Elsewhere FFmpeg makes the count of the length and the rate.
    is_counted = container.format in _COUNTED or "Audio" not in container.kinds
    frames = (header.num_frames or container.num_frames) if is_counted else None
    return Promise(num_frames=frames, duration_seconds=seconds, fps=header.fps)


def _refusal(error: VideoError) -> Refusal:
    return Refusal(code=error.code, detail=error.detail, value=error.value, limit=error.limit)
