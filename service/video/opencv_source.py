"""`cv2.VideoCapture` (FFmpeg backend) without its surprises: one open file, grabbed frame by frame.

OpenCV 4.14 converts by the frame's own matrix and range, scales a picture that changes its size to the first one, and
maps HDR to standard range. A frame that is flagged as interlaced it can't convert: it gives a stale or blank one and
says that all is well; only FFmpeg's log tells.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyFile
from service.video.errors import NotAVideo
from service.video.matroska import packet_seconds
from service.video.orientation import Orientation
from service.video.packet_times import PacketTimes
from service.video.source import Damages, ErrorLog, Header, InterlacedFrame, sane_fps, sane_pixel_aspect

# FFmpeg's words for a container that `FORMATS` leaves out; the list of the others follows.
NOT_ACCEPTED = "Format not on whitelist"
# A missing timestamp, or a missing start of the stream, makes a difference of the order of 2^63 ticks.
_NO_TIMESTAMP_SECONDS = 1e10
# `grab` fails on one undecodable packet as it does at the end; at the end a further try costs microseconds.
_TRIES_PAST_BAD_PACKETS = 256
# Codecs in which an empty packet holds the picture before (Theora I, 7.11).
_HOLD_BY_NOTHING = ("theora",)


class OpenCvSource(Damages):
    """One open video, its first video stream. Raises EmptyFile, NotAVideo.

    has_packet_times: of H.264 in Matroska, whose packets tell the times where OpenCV's are wrong (`PacketTimes`).
    """

    is_interlaced = False  # such a frame raises

    def __init__(
        self, path: Path, num_threads: int = 1, log: ErrorLog | None = None, *, has_packet_times: bool = False
    ) -> None:
        super().__init__(log)
        if path.stat().st_size == 0:
            raise EmptyFile("the video has 0 bytes; send the whole file", value=0)
        # N_THREADS defaults to the host's cores, whatever the container's quota (opencv#20002).
        # Absolute: FFmpeg reads "12:30.mp4" as a file of the protocol "12".
        self._cv = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])
        self._log = log
        if not self._cv.isOpened():
            self._cv.release()
            reason = log.take() if log else None
            told = f" ({reason})" if reason and not reason.startswith(NOT_ACCEPTED) else ""
            raise NotAVideo(
                f"no video can be opened in these bytes{told}; send an MP4, MOV, MKV, WebM or AVI file",
                words=reason,
            )
        # Versions differ in whether they rotate by default: never, and we do it ourselves.
        self._cv.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self.header = self._read_header()
        self._pts = math.nan
        self._last_pts = 0.0
        self._num_frames = 0
        self._first_frame: float | None = None
        self._first_steps = self._last_steps = math.nan
        # Opened now: a decode process opens no file later.
        self._packets: BinaryIO | None = path.open("rb") if has_packet_times else None
        self._times: PacketTimes | None = None

    def grab(self) -> bool:
        """Decode the next frame, over packets that can't be; False at the end."""
        tries = 0
        while not self._cv.grab():
            tries += 1
            if tries > _TRIES_PAST_BAD_PACKETS:
                self.note(self._last_pts, frame=False)
                return False
        self._num_frames += 1
        if self._log or tries:
            gap = tries > 0 and self.header.codec not in _HOLD_BY_NOTHING
            self.note(self._last_pts, frame=True, gap=gap)
        self._pts = self._seconds()
        if self._pts == self._pts:
            self._last_pts = self._pts
        return True

    def pts_seconds(self) -> float:
        """Presentation timestamp of the frame grabbed last, relative to the stream's start; NaN without one."""
        return self._pts

    def _seconds(self) -> float:
        seconds = self._cv.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        if self._packets:
            self._watch_start(seconds, self._cv.get(cv2.CAP_PROP_PTS))
        if self._times:
            return self._times.seconds(self._cv.get(cv2.CAP_PROP_PTS))
        if seconds == 0.0 and self._num_frames > 1:  # OpenCV's word for none, and for the start
            return math.nan
        return seconds if abs(seconds) < _NO_TIMESTAMP_SECONDS else self._seconds_without_start()

    def _watch_start(self, seconds: float, steps: float) -> None:
        """Read the packets' times once where OpenCV's are wrong."""
        if self._num_frames == 1:
            self._first_steps = steps
        if self._packets and self._is_start_wrong(seconds, steps):
            if times := packet_seconds(self._packets):
                rate = self._cv.get(cv2.CAP_PROP_FPS)
                self._times = PacketTimes(times, rate, self._first_steps, self._num_frames - 1)
            self._packets.close()
            self._packets = None
        self._last_steps = steps

    def _is_start_wrong(self, seconds: float, steps: float) -> bool:
        """The first frame is the start, or near it; and while the other clock, which has none, rises, so must time."""
        if self._num_frames == 1:
            return not 0.0 <= seconds < self.header.step_seconds
        return seconds <= self._last_pts and steps >= self._last_steps

    def _seconds_without_start(self) -> float:
        """Since the first frame, for a stream whose start is unknown.

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

    def is_intra(self) -> bool:
        """Whether the frame grabbed last is an I picture."""
        return int(self._cv.get(cv2.CAP_PROP_FRAME_TYPE)) == ord("I")

    def retrieve(self) -> NDArray[np.uint8] | None:
        """The frame grabbed last, (h, w, 3) uint8 BGR; None when it can't be converted. Raises InterlacedFrame."""
        ok, bgr = self._cv.retrieve()
        if self._log and self._log.take_interlaced():
            raise InterlacedFrame
        return bgr if ok else None  # type: ignore[return-value]

    def release(self) -> None:
        """Close the file."""
        self._cv.release()
        if self._packets:
            self._packets.close()

    def _read_header(self) -> Header:
        get = self._cv.get
        count = get(cv2.CAP_PROP_FRAME_COUNT)
        aspect = get(cv2.CAP_PROP_SAR_NUM), get(cv2.CAP_PROP_SAR_DEN)
        return Header(
            codec=_codec(int(get(cv2.CAP_PROP_FOURCC))),
            width=round(get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=round(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            orientation=Orientation(_rotation(get(cv2.CAP_PROP_ORIENTATION_META))),
            pixel_aspect=sane_pixel_aspect(*(int(side) if math.isfinite(side) else 0 for side in aspect)),
            fps=sane_fps(get(cv2.CAP_PROP_FPS)),
            num_frames=int(count) if 0 < count < 1e12 else None,
        )


def _rotation(degrees: float) -> int:
    """To the nearest right angle; a display matrix without an angle reads as -2 147 483 648."""
    return round(degrees / 90) % 4 * 90 if abs(degrees) <= 360 else 0


def _codec(fourcc: int) -> str:
    """The codec under FFmpeg's name where the tag is known, else the tag, lower case; `unknown` without one."""
    text = (fourcc & 0xFFFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip("\0 ").lower()
    return _CODEC_NAMES.get(text, text) if text.isprintable() and text else "unknown"


_CODEC_NAMES = {
    "avc1": "h264", "hev1": "hevc", "hvc1": "hevc", "av01": "av1", "vp08": "vp8", "vp80": "vp8", "vp09": "vp9",
    "vp90": "vp9", "mp4v": "mpeg4", "fmp4": "mpeg4", "xvid": "mpeg4", "divx": "mpeg4", "mjpg": "mjpeg",
    "mpg1": "mpeg1video", "mpg2": "mpeg2video", "theo": "theora",
}  # fmt: skip
