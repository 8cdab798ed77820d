"""Notice that the picture's size changes in mid-stream.

OpenCV 4.12 makes its conversion for the first picture and the header's size. Of a picture of another size it gives a
part, or the last one again, and says nothing. Two sources know better: what decoders log (`ErrorLog.take_sizes`), and
the packets, read a second time beside the decoder (`service.video.coded_size`). H.264 needs no second reading where
there is a log; without one, and for codecs whose decoder logs nothing (VP8, VP9, HEVC), packets are all there is.
Not noticed: another crop of the same coded size in the log; a smaller picture in codecs that neither source knows.
"""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path
from typing import Protocol

import cv2

from service.video.coded_size import READERS
from service.video.errors import SizeChanged
from service.video.vpx import Size

# FFmpeg's H.264 decoder: the coded size and the pixel format.
_REINIT = re.compile(r"Reinit context to (\d+)x(\d+), pix_fmt: (\w+)")
# ProRes, DNxHD, RealVideo.
_CHANGE = re.compile(r"(?:resolution|dimension) change|changing dimensions", re.IGNORECASE)
_SIZE = re.compile(r"(\d+)x(\d+)")
# swscale, of a picture with more rows than the first, whatever the codec.
_ROWS = re.compile(r"Slice parameters 0, (\d+) are invalid")
# A decoder logs the change when it meets the packet; frames that it holds back come first, 16 at most.
_HELD_FRAMES = 16
# Of its logging, 40 ("verbose"), and of all that is caught one of these words tells a size.
SIZE_LINES = re.compile("|".join(words.pattern for words in (_REINIT, _CHANGE, _ROWS)), re.IGNORECASE)
# Of these the size may stand in the file's header alone, until it changes.
_BY_HEADER = ("mpeg4", "dx50")
_NO_TIMESTAMP_SECONDS = 1e10


class SizeLog(Protocol):
    """FFmpeg's lines about the picture's size."""

    def take_sizes(self) -> list[str]:
        """Those since the last call (`SIZE_LINES`)."""

    def muted(self) -> contextlib.AbstractContextManager[None]:
        """What comes within is not kept."""


class SizeWatch:
    """Of one stream; size: the header's; new_size: in words, once a frame that has it was grabbed."""

    def __init__(self, path: Path, codec: str, size: Size, log: SizeLog | None) -> None:
        self.new_size: str | None = None
        self._log = log
        self._packets: PacketSizes | None = None
        if codec in READERS and not (log and codec == "h264"):
            with log.muted() if log else contextlib.nullcontext():
                self._packets = PacketSizes(path, codec, size)
        self._first_reinit: tuple[str, ...] | None = None
        self._announced: str | None = None
        self._held = self._frames = 0
        if log:
            log.take_sizes()  # of what was decoded to learn the header

    def after_grab(self, pts_seconds: float, *, intra: bool) -> None:
        """A frame was grabbed; intra: it is an I picture, as the first of a new size is."""
        self._frames += 1
        if self._log:
            self._read_log(self._log, intra=intra)
        if self._packets and not self.new_size:
            with self._log.muted() if self._log else contextlib.nullcontext():
                size = self._packets.changed(pts_seconds)
            self.new_size = size and _words(size)

    def after_retrieve(self) -> bool:
        """A frame was converted; whether it is to be believed."""
        for line in self._log.take_sizes() if self._log else ():
            if rows := _ROWS.search(line):
                self.new_size = self._announced or self.new_size or f"a height of {rows[1]}"
                return False
        return True

    def release(self) -> None:
        """Close the file."""
        if self._packets:
            self._packets.release()

    def _read_log(self, log: SizeLog, *, intra: bool) -> None:
        for line in log.take_sizes():
            if reinit := _REINIT.search(line):
                found = reinit.groups()
                self._first_reinit = self._first_reinit or found
                if found != self._first_reinit:
                    same = found[:2] == self._first_reinit[:2]
                    self._announced = f"{found[0]} x {found[1]}" + (f", {found[2]}" if same else "")
            elif _CHANGE.search(line):
                sizes = _SIZE.findall(line)
                self._announced = _words(sizes[-1]) if sizes else "another size"
        if self._announced:
            self._held += 1
            # Before the first frame is out, the conversion is made for the new size: nothing before it is right either.
            if intra or self._held > _HELD_FRAMES or self._frames == 1:
                self.new_size = self._announced


class PacketSizes:
    """The packets of a file that is also being decoded, read in step, and the sizes that they tell."""

    def __init__(self, path: Path, codec: str, size: Size) -> None:
        how = [cv2.CAP_PROP_FORMAT, -1, cv2.CAP_PROP_N_THREADS, 1]
        self._cv = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, how)
        self._size_of = READERS[codec]()
        self._first = size if codec in _BY_HEADER else None
        self._new: Size | None = None
        self._new_seconds = -math.inf
        self._frames = self._read = 0
        self._latest = -math.inf

    def changed(self, pts_seconds: float) -> Size | None:
        """The new size, if the next frame decoded, at `pts_seconds`, has one.

        As many packets are read as frames were, for times may jump, and those that the frame's time is behind, for
        packets may give no frame. Decoding order is no matter: frames on either side of a change don't mix.
        """
        self._frames += 1
        while not self._new and (self._read < self._frames or self._latest < pts_seconds):
            if not self._cv.grab():
                break
            self._read += 1
            seconds = self._cv.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            if abs(seconds) < _NO_TIMESTAMP_SECONDS:
                self._latest = max(self._latest, seconds)
            if size := self._size():
                self._first = self._first or size
                if size != self._first:
                    self._new, self._new_seconds = size, seconds
        return None if pts_seconds < self._new_seconds < _NO_TIMESTAMP_SECONDS else self._new

    def release(self) -> None:
        """Close the file."""
        self._cv.release()

    def _size(self) -> Size | None:
        ok, packet = self._cv.retrieve()
        try:
            return self._size_of(packet.tobytes()) if ok else None
        except (ValueError, IndexError, KeyError):  # a broken packet
            return None


def size_changed(first: Size, new_size: str, seconds: float, rotation_degrees: int = 0) -> SizeChanged:
    """The error for it; first: stored pixels, before rotation."""
    was = _words(first)
    across, down = (max(2, side // 2 * 2) for side in (first[::-1] if rotation_degrees in (90, 270) else first))
    return SizeChanged(
        f"the picture changes from {was} to {new_size} at {seconds:.3f} s; OpenCV can't follow it: give it one size, "
        f"for example: ffmpeg -i INPUT -vf scale={across}:{down} -c:v libx264 -pix_fmt yuv420p OUTPUT.mp4",
        value=new_size,
        limit=was,
    )


def _words(size: tuple[object, object]) -> str:
    return f"{size[0]} x {size[1]}"
