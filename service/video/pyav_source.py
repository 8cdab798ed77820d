"""PyAV, for what OpenCV can't: frames of two fields, and a video stream that is not the first one.

An extra (`codecs` in pyproject.toml): its wheels carry x264 and x265, so that what is distributed with them is under
the GPL. Everything here is also `OpenCvSource`'s; nothing else of the service imports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.video import DEMUXER_OPTIONS
from service.video.errors import NotAVideo
from service.video.orientation import UPRIGHT, Orientation
from service.video.source import Damages, ErrorLog, Header, sane_fps, sane_pixel_aspect

if TYPE_CHECKING:
    import av

AVAILABLE = find_spec("av") is not None
VERSION = version("av") if AVAILABLE else "none"
# A demuxer may fail on a place, and go on behind it.
_TRIES_PAST_UNREADABLE = 256
# AV_DISPOSITION_ATTACHED_PIC, and with it AV_DISPOSITION_TIMED_THUMBNAILS where it is a track (pictures of chapters).
_ATTACHED_PICTURE, _TIMED_THUMBNAILS = 0x0400, 0x0800
# Streams without a container: nobody tells the times of their frames, and the codec their rate.
_WITHOUT_TIMES = ("h264", "hevc")
# AV_PICTURE_TYPE_I
_I_PICTURE = 1


# As H.273 numbers them. OpenCV leaves the target's open, and libswscale then keeps what is near BT.709 and maps the
# rest; PyAV would keep all.
_BT709, _SDR_PRIMARIES, _HDR_TRANSFERS = 1, (1, 2, 4, 5, 6, 7), (16, 18)


def library() -> ModuleType:
    """PyAV, loaded when it is first needed: few videos do, and it takes a tenth of a second."""
    import av
    import av.error
    import av.logging
    import av.video.reformatter

    # FFmpeg's own callback writes to standard error, where `FfmpegLog` reads; PyAV's would need the interpreter.
    av.logging.restore_default_callback()
    return av


def begins_interlaced(path: Path) -> bool:
    """Whether the first frame of the first video stream is flagged as two fields."""
    pyav = library()
    pyav.logging.set_level(pyav.logging.PANIC)
    try:
        with pyav.open(str(path.absolute()), options=dict(DEMUXER_OPTIONS), metadata_errors="replace") as container:
            first = next(container.decode(video=0), None) if container.streams.video else None
            return first is not None and bool(first.interlaced_frame)
    except (pyav.error.FFmpegError, EOFError):
        return False


def _is_cover(disposition: int) -> bool:
    return disposition & (_ATTACHED_PICTURE | _TIMED_THUMBNAILS) == _ATTACHED_PICTURE


class PyAvSource(Damages):
    """One open video, any of its video streams. Raises NotAVideo."""

    def __init__(
        self,
        path: Path,
        stream: int = 0,
        num_threads: int = 1,
        log: ErrorLog | None = None,
        orientation: Orientation = UPRIGHT,
    ) -> None:
        """stream: its number among the file's video streams, cover art not counted."""
        super().__init__(log)
        pyav = library()
        self._faults = pyav.error.FFmpegError
        pyav.logging.set_level(pyav.logging.ERROR if log else pyav.logging.PANIC)
        try:
            self._container = pyav.open(str(path.absolute()), options=dict(DEMUXER_OPTIONS), metadata_errors="replace")
        except self._faults as error:
            raise NotAVideo(f"no video can be opened in these bytes ({error.strerror}); send the whole file") from error
        videos = [found for found in self._container.streams.video if not _is_cover(found.disposition)]
        if stream >= len(videos):
            self._container.close()
            raise NotAVideo(f"video stream {stream} can't be opened; send the film alone", value=stream)
        self._stream = videos[stream]
        if self._stream.codec_context is None:
            self._container.close()
            raise NotAVideo(f"there is no decoder for video stream {stream}; re-encode it", value=stream)
        self._stream.codec_context.thread_count = self._num_threads = num_threads
        # One for all frames: its tables for HDR take seconds.
        self._reformatter = pyav.video.reformatter.VideoReformatter()
        self.header = self._read_header(orientation)
        self._start = self._stream.start_time
        self._last_pts = 0.0
        self._gap = self.is_interlaced = False
        self._frames = self._decoded()
        self._frame: av.VideoFrame | None = None

    def grab(self) -> bool:
        """Decode the next frame, over packets that can't be; False at the end."""
        self._gap = False
        self._frame = next(self._frames, None)
        self.note(self._last_pts, frame=self._frame is not None, gap=self._gap and self._frame is not None)
        if self._frame is None:
            return False
        pts = self.pts_seconds()
        self._last_pts = pts if math.isfinite(pts) else self._last_pts
        self.is_interlaced = self.is_interlaced or bool(self._frame.interlaced_frame)
        return True

    def pts_seconds(self) -> float:
        """Presentation timestamp of the frame grabbed last, relative to the stream's start; NaN without one."""
        frame, base = self._frame, self._stream.time_base
        pts = None if frame is None else frame.dts if frame.pts is None else frame.pts
        if pts is None or base is None:
            return math.nan
        if self._start is None:
            self._start = pts
        return float((pts - self._start) * base)

    @property
    def times_are_rounded(self) -> bool:
        """Never."""
        return False

    def is_intra(self) -> bool:
        """Whether the frame grabbed last is an I picture."""
        return self._frame is not None and self._frame.pict_type == _I_PICTURE

    def retrieve(self) -> NDArray[np.uint8] | None:
        """The frame grabbed last, (h, w, 3) uint8 BGR in the header's size."""
        if self._frame is None:
            return None
        header, frame = self.header, self._frame
        bgr = self._reformatter.reformat(
            frame, header.width, header.height, "bgr24", interpolation="BICUBIC", threads=self._num_threads,
            dst_color_primaries=None if frame.color_primaries in _SDR_PRIMARIES else _BT709,
            dst_color_trc=_BT709 if frame.color_trc in _HDR_TRANSFERS else None,
        ).to_ndarray()  # fmt: skip
        return np.asarray(bgr, np.uint8)

    def release(self) -> None:
        """Close the file."""
        self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets, tries = self._container.demux(self._stream), 0
        while True:
            try:
                packet = next(packets, None)
            except self._faults:  # these packets have ended; others may follow
                self._gap = True
                tries += 1
                if tries > _TRIES_PAST_UNREADABLE:
                    return
                packets = self._container.demux(self._stream)
                continue
            if packet is None:
                return
            try:
                yield from packet.decode()
            except EOFError:
                return
            except self._faults:
                self._gap = True

    def _read_header(self, orientation: Orientation) -> Header:
        stream, context = self._stream, self._stream.codec_context
        aspect = stream.sample_aspect_ratio
        has_times = self._container.format.name not in _WITHOUT_TIMES
        fps = sane_fps(float((stream.average_rate if has_times else stream.guessed_rate) or 0))
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        frames = stream.frames or round(seconds * (fps or 0.0))
        return Header(
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            orientation=orientation,
            pixel_aspect=sane_pixel_aspect(aspect.numerator, aspect.denominator) if aspect else sane_pixel_aspect(1, 1),
            fps=fps,
            num_frames=frames or None,
            decoder="pyav",
        )
