"""Walk a video with OpenCV and yield its sampled frames in chunks.

Every frame is grabbed, in order; only the sampled ones are retrieved and converted. The presentation
timestamp is the truth, never the frame count or the nominal rate of the header. Memory is one chunk,
whatever the video's length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyFile, NoDecodableFrame, NotAVideo, TooManyFrames, TooManyPixels, TooShort
from service.video.frames import prepare
from service.video.grid import SamplingGrid
from service.video.spec import ClipSpec

TimeBase = Literal["pts", "nominal"]

# Some containers promise absurd rates (90000); a nominal step is only used where timestamps fail.
_FALLBACK_FPS = 25.0
_SANE_FPS = (0.1, 480.0)


@dataclass(frozen=True)
class DecodeLimits:
    """What a single video may cost. Errors name the limit and the setting of the same name."""

    max_frame_pixels: int = 4096 * 2304
    max_frames_walked: int = 1_000_000
    max_ticks: int = 200_000


@dataclass(frozen=True)
class FrameChunk:
    """Sampled frames in presentation order.

    frames: (N, H, W, 3) uint8 RGB; ticks: (N,) int64, the grid ticks that each frame serves, all >= 1.
    """

    frames: NDArray[np.uint8]
    ticks: NDArray[np.int64]


@dataclass(frozen=True)
class DecodeReport:
    """What was walked and used: the temporal receipt's part that decoding knows. Times in seconds."""

    duration_seconds: float
    width: int
    height: int
    codec: str
    rotation_degrees: int
    time_base: TimeBase
    frames_walked: int
    frames_used: int
    frames_repeated: int
    frames_dropped: int
    first_seconds: float
    last_seconds: float
    warnings: tuple[str, ...] = ()


class ClipReader:
    """One pass over one video file.

    >>> with ClipReader(path, spec) as reader:            # doctest: +SKIP
    ...     for chunk in reader.chunks(16):
    ...         chunk.frames.shape                         # (<= 16, H, W, 3)
    ...     reader.report()

    Raises EmptyFile, NotAVideo, NoDecodableFrame, TooShort, TooManyPixels, TooManyFrames.
    `width` and `height` of the report are those of the picture upright, after rotation.
    """

    def __init__(
        self,
        path: Path,
        spec: ClipSpec,
        *,
        start_seconds: float = 0.0,
        end_seconds: float = math.inf,
        limits: DecodeLimits | None = None,
        num_threads: int = 1,
    ) -> None:
        self.path = path
        self.spec = spec
        self.limits = limits or DecodeLimits()
        self.grid = SamplingGrid(spec.sample_fps, start_seconds, end_seconds)
        self._capture = _open(path, num_threads)
        self.codec = _fourcc(self._capture)
        # Versions differ in whether they rotate by default: never, and we do it ourselves.
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self.rotation_degrees = round(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360 // 90 * 90
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._step_seconds = 1.0 / (fps if _SANE_FPS[0] <= fps <= _SANE_FPS[1] else _FALLBACK_FPS)
        self._width = round(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self._height = round(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._check_pixels(self._width, self._height)
        self._walked = self._used = self._repeated = self._dropped = self._nominal = 0
        self._first_used = self._last_used = self._last_pts = self._last_step = math.nan

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def chunks(self, max_frames: int) -> Iterator[FrameChunk]:
        """Yield chunks of at most `max_frames` frames; each owns its memory."""
        if max_frames < 1:
            raise ValueError(f"max_frames is {max_frames}; a chunk holds at least 1")
        shape = (max_frames, self.spec.frame_height, self.spec.frame_width, 3)
        frames = np.empty(shape, np.uint8)
        ticks: list[int] = []
        while (pts := self._grab()) is not None:
            due = self.grid.due(pts)
            self._check_ticks(self.grid.num_ticks + due)
            if due and self._retrieve(frames[len(ticks)]):
                ticks.append(self.grid.take(pts))
                self._note_used(pts, due)
            if len(ticks) == max_frames:
                yield FrameChunk(frames, np.array(ticks, np.int64))
                frames, ticks = np.empty(shape, np.uint8), []
        if ticks:
            yield FrameChunk(frames[: len(ticks)], np.array(ticks, np.int64))
        self._check_enough()

    def report(self) -> DecodeReport:
        """What the pass met; meaningful once `chunks` is exhausted."""
        upright = self.rotation_degrees in (0, 180)
        warnings = []
        if self._nominal:
            warnings.append(
                f"{self._nominal} of {self._walked} frames had no rising timestamp; "
                f"the nominal step of {self._step_seconds:.4f} s was used for them"
            )
        if self._dropped:
            warnings.append(f"{self._dropped} sampled frames could not be decoded; the next ones took their place")
        return DecodeReport(
            duration_seconds=round(self._last_pts + self._last_step, 6),
            width=self._width if upright else self._height,
            height=self._height if upright else self._width,
            codec=self.codec,
            rotation_degrees=self.rotation_degrees,
            time_base="nominal" if self._nominal else "pts",
            frames_walked=self._walked,
            frames_used=self._used,
            frames_repeated=self._repeated,
            frames_dropped=self._dropped,
            first_seconds=round(self._first_used, 6),
            last_seconds=round(self._last_used, 6),
            warnings=tuple(warnings),
        )

    def _grab(self) -> float | None:
        """Grab the next frame; its presentation time in seconds, or None at the end."""
        if self.grid.ended(self._last_pts) or not self._capture.grab():
            return None
        self._walked += 1
        if self._walked > self.limits.max_frames_walked:
            raise TooManyFrames(
                f"the video has more than {self.limits.max_frames_walked} frames; cut it, or raise max_frames_walked",
                value=self._walked,
                limit=self.limits.max_frames_walked,
            )
        pts = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        if self._walked > 1 and not self._last_pts < pts < math.inf:
            self._nominal += 1
            pts = self._last_pts + self._step_seconds
        elif self._walked == 1 and not math.isfinite(pts):
            self._nominal += 1
            pts = 0.0
        self._last_step = pts - self._last_pts if self._walked > 1 else self._step_seconds
        self._last_pts = pts
        return pts

    def _retrieve(self, out: NDArray[np.uint8]) -> bool:
        ok, bgr = self._capture.retrieve()
        if not ok or bgr is None:
            self._dropped += 1
            return False
        self._check_pixels(bgr.shape[1], bgr.shape[0])
        prepare(bgr, self.spec, self.rotation_degrees, out)  # type: ignore[arg-type]
        return True

    def _note_used(self, pts: float, ticks: int) -> None:
        if self._used == 0:
            self._first_used = pts
        self._last_used = pts
        self._used += 1
        self._repeated += ticks - 1

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.limits.max_frame_pixels:
            raise TooManyPixels(
                f"a frame has {width} x {height} pixels, the limit is {self.limits.max_frame_pixels}; "
                "scale the video down, or raise max_frame_pixels",
                value=width * height,
                limit=self.limits.max_frame_pixels,
            )

    def _check_ticks(self, ticks: int) -> None:
        """Timestamps are the file's word: one frame may claim to stand for a year."""
        if ticks > self.limits.max_ticks:
            raise TooManyFrames(
                f"the timestamps ask for {ticks} samples at {self.spec.sample_fps:g} per second, the limit is "
                f"{self.limits.max_ticks}; cut the video, or raise max_ticks",
                value=ticks,
                limit=self.limits.max_ticks,
            )

    def _check_enough(self) -> None:
        if self._walked == 0 or (self._used == 0 and self._dropped):
            raise NoDecodableFrame(
                f"the container opens (codec {self.codec}) but no frame could be decoded; the file is cut short or "
                "broken, or this build has no decoder for the codec: re-encode it, for example to H.264"
            )
        if self.grid.num_ticks < self.spec.min_frames:
            raise TooShort(
                f"the clip gives {self.grid.num_ticks} frames at {self.spec.sample_fps:g} per second, the model needs "
                f"{self.spec.min_frames}; send a longer clip",
                value=self.grid.num_ticks,
                limit=self.spec.min_frames,
            )


def _open(path: Path, num_threads: int) -> cv2.VideoCapture:
    if path.stat().st_size == 0:
        raise EmptyFile("the video has 0 bytes; send the whole file", value=0)
    # N_THREADS defaults to the host's cores, whatever the container's quota (opencv#20002).
    # Absolute: FFmpeg reads "12:30.mp4" as a file of the protocol "12".
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])
    if not capture.isOpened():
        capture.release()
        raise NotAVideo("no demuxer finds a video stream in these bytes; send an MP4, MOV, MKV, WebM or AVI file")
    return capture


def _fourcc(capture: cv2.VideoCapture) -> str:
    """The codec's four characters as FFmpeg tags them, lower case; `unknown` where there are none."""
    value = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    text = value.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").lower()
    return _CODEC_NAMES.get(text, text) if text.isprintable() and text else "unknown"


# Container tags of one codec, under the name FFmpeg gives it.
_CODEC_NAMES = {
    "avc1": "h264", "hev1": "hevc", "hvc1": "hevc", "av01": "av1", "vp08": "vp8", "vp80": "vp8", "vp09": "vp9",
    "vp90": "vp9", "mp4v": "mpeg4", "fmp4": "mpeg4", "xvid": "mpeg4", "divx": "mpeg4", "mjpg": "mjpeg",
    "mpg1": "mpeg1video", "mpg2": "mpeg2video",
}  # fmt: skip
