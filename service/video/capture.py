"""`cv2.VideoCapture` (FFmpeg backend) without its surprises: one open file, grabbed frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyFile
from service.video.errors import NotAVideo
from service.video.size_watch import SizeLog, SizeWatch

# Some containers promise absurd rates (90000); a nominal step is only used where timestamps fail.
_FALLBACK_FPS = 25.0
_SANE_FPS = (0.1, 480.0)
# A missing timestamp, or a missing start of the stream, makes a difference of the order of 2^63 ticks.
_NO_TIMESTAMP_SECONDS = 1e10
# A pixel thinner or flatter than this is a broken header.
_SANE_PIXEL_ASPECT = (Fraction(1, 10), Fraction(10))
# OpenCV gives swscale the picture's rows as a part of the coded ones (1080 of 1088). In 4:2:0 the last rows also need
# chroma from below: they stay unwritten, and hold what lay in memory. 8 bits go another way.
_UNWRITTEN_ROWS = 3
_DEEP_420 = tuple(b"Y3\x0b" + bytes([bits]) for bits in (9, 10, 12, 14, 16))
# What coded heights are multiples of, at worst: two fields of macroblocks; the largest smallest block.
_CODED_ROWS = {"h264": 32, "hevc": 64}
# `grab` fails on one undecodable packet as it does at the end; at the end a further try costs microseconds.
_TRIES_PAST_BAD_PACKETS = 256


class ErrorLog(SizeLog, Protocol):
    """Where FFmpeg's error lines go: it conceals damage and tells nobody else."""

    def take(self) -> str | None:
        """The first error line since the last call; None when there is none."""


@dataclass(frozen=True)
class Header:
    """What the file says before a frame is decoded; sizes in stored pixels, before rotation.

    num_frames and duration_seconds are the container's word, and None where it says nothing usable.
    """

    codec: str
    width: int
    height: int
    rotation_degrees: int
    pixel_aspect: Fraction
    fps: float | None
    num_frames: int | None

    @property
    def step_seconds(self) -> float:
        """From one frame to the next, nominally."""
        return 1.0 / (self.fps or _FALLBACK_FPS)

    @property
    def duration_seconds(self) -> float | None:
        """Of the container: OpenCV makes its frame count from it, or it from the count."""
        return self.num_frames / self.fps if self.num_frames and self.fps else None


class Capture:
    """One open video. Raises EmptyFile, NotAVideo.

    gaps: places where packets gave an error instead of a frame; damaged: frames whose decoding FFmpeg
    complained of (known with an `ErrorLog` only); first_damage: the time before it and FFmpeg's words.
    `new_size`: once the frame grabbed last, or one before it, has another size than the first.
    """

    def __init__(self, path: Path, num_threads: int = 1, log: ErrorLog | None = None) -> None:
        if path.stat().st_size == 0:
            raise EmptyFile("the video has 0 bytes; send the whole file", value=0)
        # N_THREADS defaults to the host's cores, whatever the container's quota (opencv#20002).
        # Absolute: FFmpeg reads "12:30.mp4" as a file of the protocol "12".
        self._cv = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])
        self._log = log
        if not self._cv.isOpened():
            self._cv.release()
            reason = log.take() if log else None
            raise NotAVideo(
                f"no video can be opened in these bytes{f' ({reason})' if reason else ''}; "
                "send an MP4, MOV, MKV, WebM or AVI file",
                words=reason,
            )
        # Versions differ in whether they rotate by default: never, and we do it ourselves.
        self._cv.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self.header = self._read_header()
        self.gaps = self.damaged = 0
        self.first_damage: tuple[float, str] | None = None
        self._last_pts = 0.0
        self._first_frame: float | None = None
        self._sizes = SizeWatch(path, self.header.codec, (self.header.width, self.header.height), log)
        self._lacks_rows = self.header.height % _CODED_ROWS.get(self.header.codec, 1) and self._is_deep_420()

    def grab(self) -> bool:
        """Decode the next frame, over packets that can't be; False at the end."""
        tries = 0
        while not self._cv.grab():
            tries += 1
            if tries > _TRIES_PAST_BAD_PACKETS:
                self._note_damage(frame=False)
                return False
        if tries:
            self.gaps += 1
        self._note_damage(frame=True, gap=tries > 0)
        pts = self.pts_seconds()
        self._last_pts = pts if math.isfinite(pts) else self._last_pts
        self._sizes.after_grab(pts, intra=self.is_intra())
        return True

    def pts_seconds(self) -> float:
        """Presentation timestamp of the frame grabbed last, relative to the stream's start; NaN without one."""
        seconds = self._cv.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        return seconds if abs(seconds) < _NO_TIMESTAMP_SECONDS else self._seconds_without_start()

    def _seconds_without_start(self) -> float:
        """Since the first frame, for a stream whose start is unknown (Matroska of a few frames).

        OpenCV's other clock then still goes, in steps of the nominal rate.
        """
        frames = self._cv.get(cv2.CAP_PROP_PTS)
        if not self.header.fps or not abs(frames) < _NO_TIMESTAMP_SECONDS:
            return math.nan
        if self._first_frame is None:
            self._first_frame = frames
        return (frames - self._first_frame) / self.header.fps

    @property
    def times_are_rounded(self) -> bool:
        """Whether times are multiples of the nominal step, as the stream's start is unknown."""
        return self._first_frame is not None

    @property
    def new_size(self) -> str | None:
        """In words ("160 x 120"), where it has changed: what `retrieve` gives is then wrong."""
        return self._sizes.new_size

    def is_intra(self) -> bool:
        """Whether the frame grabbed last is an I picture."""
        return int(self._cv.get(cv2.CAP_PROP_FRAME_TYPE)) == ord("I")

    def retrieve(self) -> NDArray[np.uint8] | None:
        """The frame grabbed last, (h, w, 3) uint8 BGR, valid until the next; None when it can't be converted."""
        try:
            ok, bgr = self._cv.retrieve()
        except cv2.error as error:  # a picture larger than the header has it, in a stream that changes size
            if error.code == cv2.Error.StsNoMem:
                raise
            return None
        ok = self._sizes.after_retrieve() and ok
        if ok and self._lacks_rows:
            bgr[-_UNWRITTEN_ROWS:] = bgr[-_UNWRITTEN_ROWS - 1]
        return bgr if ok else None  # type: ignore[return-value]

    def release(self) -> None:
        """Close the file."""
        self._cv.release()
        self._sizes.release()

    def _note_damage(self, *, frame: bool, gap: bool = False) -> None:
        line = self._log.take() if self._log else None
        if line is None and not gap:
            return
        self.damaged += frame
        self.first_damage = self.first_damage or (self._last_pts, line or "a packet that can't be decoded")

    def _is_deep_420(self) -> bool:
        tag = int(self._cv.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)) & 0xFFFFFFFF
        return tag.to_bytes(4, "little") in _DEEP_420

    def _read_header(self) -> Header:
        get = self._cv.get
        fps, count = get(cv2.CAP_PROP_FPS), get(cv2.CAP_PROP_FRAME_COUNT)
        return Header(
            codec=_codec(int(get(cv2.CAP_PROP_FOURCC))),
            width=round(get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=round(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            rotation_degrees=_rotation(get(cv2.CAP_PROP_ORIENTATION_META)),
            pixel_aspect=_pixel_aspect(get(cv2.CAP_PROP_SAR_NUM), get(cv2.CAP_PROP_SAR_DEN)),
            fps=fps if _SANE_FPS[0] <= fps <= _SANE_FPS[1] else None,
            num_frames=int(count) if 0 < count < 1e12 else None,
        )


def _rotation(degrees: float) -> int:
    """To the nearest right angle; a display matrix without an angle reads as -2 147 483 648."""
    return round(degrees / 90) % 4 * 90 if abs(degrees) <= 360 else 0


def _pixel_aspect(numerator: float, denominator: float) -> Fraction:
    if not (math.isfinite(numerator) and math.isfinite(denominator) and numerator > 0 and denominator > 0):
        return Fraction(1)
    aspect = Fraction(int(numerator), int(denominator))
    return aspect if _SANE_PIXEL_ASPECT[0] <= aspect <= _SANE_PIXEL_ASPECT[1] else Fraction(1)


def _codec(fourcc: int) -> str:
    """The codec under FFmpeg's name where the tag is known, else the tag, lower case; `unknown` without one."""
    text = (fourcc & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").lower()
    return _CODEC_NAMES.get(text, text) if text.isprintable() and text else "unknown"


_CODEC_NAMES = {
    "avc1": "h264", "hev1": "hevc", "hvc1": "hevc", "av01": "av1", "vp08": "vp8", "vp80": "vp8", "vp09": "vp9",
    "vp90": "vp9", "mp4v": "mpeg4", "fmp4": "mpeg4", "xvid": "mpeg4", "divx": "mpeg4", "mjpg": "mjpeg",
    "mpg1": "mpeg1video", "mpg2": "mpeg2video",
}  # fmt: skip
