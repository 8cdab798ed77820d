"""Find out what a video really is: its header first, then every frame where that is asked for; nothing is inferred.

It runs in the decode process, turn by turn, as `service.video.decode` does. Memory is bounded, whatever the
video's length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from service.video.capture import Capture, ErrorLog, Header
from service.video.container import Container
from service.video.errors import TooLong, TooManyFrames, TooManyPixels, VideoError
from service.video.facts import Damage, ProbeFacts, Promise, Refusal, Speed
from service.video.limits import DecodeLimits
from service.video.size_watch import size_changed
from service.video.walk import Tally

# Frames that tell how fast the file decodes here; every third is also converted.
_MEASURED_FRAMES, _CONVERTED_EVERY = 25, 3


class Prober:
    """One pass over one file. Raises EmptyFile, NotAVideo.

    >>> prober = Prober(path, DecodeLimits())            # doctest: +SKIP
    >>> prober.measure(0.025)                             # the first frames, and how fast they come
    >>> while not prober.ended: prober.walk(0.025)        # the others
    >>> prober.facts(identify(path))
    """

    def __init__(self, path: Path, limits: DecodeLimits, log: ErrorLog | None = None) -> None:
        self._capture = Capture(path, 1, log)
        self._limits = limits
        self.header = self._capture.header
        self._tally = Tally(self.header.step_seconds)
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
        return self._capture.first_damage

    @property
    def gave_nothing(self) -> bool:
        """Whether the file ended without a frame."""
        return self.ended and not self._refused and not self._tally.num_frames

    def facts(self, container: Container, no_frame: VideoError | None = None) -> ProbeFacts:
        """All that is known by now. no_frame: why `gave_nothing`."""
        header, tally, refused = self.header, self._tally, no_frame or self._refused
        turned = header.rotation_degrees in (90, 270)
        aspect = header.pixel_aspect
        return _headers(container).model_copy(
            update={
                "codec": header.codec,
                "width": header.height if turned else header.width,
                "height": header.width if turned else header.height,
                "sample_aspect_ratio": f"{aspect.numerator}:{aspect.denominator}",
                "rotation_degrees": header.rotation_degrees,
                "header": _promise(header, container),
                "decodable": tally.num_frames > 0,
                "refusal": refused and _refusal(refused),
                "speed": self._speed(),
                "damage": self._damage(),
                "walk": tally.walk(complete=not refused) if self.ended and tally.num_frames else None,
            }
        )

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
        if not self._capture.grab():
            self.ended = True
            return
        pts = self._tally.add(self._capture.pts_seconds(), intra=self._capture.is_intra())
        try:
            self._limits.check_walk(self._tally.num_frames, pts)
        except (TooLong, TooManyFrames) as error:
            self._refuse(error)
        self._check_size(pts)

    def _check_size(self, pts: float) -> None:
        header, new_size = self.header, self._capture.new_size
        if new_size and not self._refused:
            self._refuse(size_changed((header.width, header.height), new_size, pts, header.rotation_degrees))

    def _convert(self) -> None:
        bgr = self._capture.retrieve()
        if bgr is None:
            return
        try:
            self._limits.check_pixels(bgr.shape[1], bgr.shape[0])
        except TooManyPixels as error:
            self._refuse(error)

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
        if self._capture.first_damage is None:
            return None
        at, words = self._capture.first_damage
        return Damage(first_seconds=round(at, 6), words=words, frames=self._capture.damaged, gaps=self._capture.gaps)


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
        index_first=container.streamable,
        truncated=container.truncated,
        header=Promise(num_frames=container.num_frames, duration_seconds=container.duration_seconds),
    )


def _promise(header: Header, container: Container) -> Promise:
    """FFmpeg's reading, as decoding relies on it; MediaInfo's where it has none."""
    return Promise(
        num_frames=header.num_frames or container.num_frames,
        duration_seconds=header.duration_seconds or container.duration_seconds,
        fps=header.fps,
    )


def _refusal(error: VideoError) -> Refusal:
    return Refusal(code=error.code, detail=error.detail, value=error.value, limit=error.limit)
