"""What an open video is to those who walk it, whichever library decodes it: `opencv_source`, `pyav_source`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.video.orientation import UPRIGHT, Orientation

# A nominal step is only used where timestamps fail.
_FALLBACK_FPS = 25.0
# Some containers promise absurd rates (90000); a pixel thinner or flatter than this is a broken header.
_SANE_FPS = (0.1, 480.0)
_SANE_PIXEL_ASPECT = (Fraction(1, 10), Fraction(10))

DecoderName = Literal["opencv", "pyav"]


class ErrorLog(Protocol):
    """Where FFmpeg's error lines go: it conceals damage and tells nobody else."""

    def take(self) -> str | None:
        """The first error line since the last call; None when there is none."""

    def take_interlaced(self) -> bool:
        """Whether since the last call a conversion failed as the frame was interlaced."""


class InterlacedFrame(Exception):
    """A frame of two fields, which OpenCV gives as a blank one."""


@dataclass(frozen=True)
class Header:
    """What the file says before a frame is decoded; sizes in stored pixels, before they are turned.

    num_frames and duration_seconds are the container's word, and None where it says nothing usable.
    """

    codec: str
    width: int
    height: int
    orientation: Orientation = UPRIGHT
    pixel_aspect: Fraction = Fraction(1)
    fps: float | None = None
    num_frames: int | None = None
    decoder: DecoderName = "opencv"

    @property
    def step_seconds(self) -> float:
        """From one frame to the next, nominally."""
        return 1.0 / (self.fps or _FALLBACK_FPS)

    @property
    def duration_seconds(self) -> float | None:
        """Of the container: OpenCV makes its frame count from it, or it from the count."""
        return self.num_frames / self.fps if self.num_frames and self.fps else None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the picture as it is seen, in stored pixels."""
        return (self.height, self.width) if self.orientation.swaps_sides else (self.width, self.height)

    @property
    def sample_aspect_ratio(self) -> str:
        """Width : height of a stored pixel."""
        return f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"


class Source(Protocol):
    """One open video, frame by frame in presentation order.

    gaps: places where packets gave an error instead of a frame; damaged: frames whose decoding FFmpeg complained of
    (known with an `ErrorLog` only); first_damage: the time before it and FFmpeg's words. is_interlaced: a frame of two
    fields has come.
    """

    header: Header
    gaps: int
    damaged: int
    first_damage: tuple[float, str] | None
    is_interlaced: bool

    def grab(self) -> bool:
        """Decode the next frame, over packets that can't be; False at the end."""

    def pts_seconds(self) -> float:
        """Presentation timestamp of the frame grabbed last, relative to the stream's start; NaN without one."""

    @property
    def times_are_rounded(self) -> bool:
        """Whether times are multiples of the nominal step, as the stream's start is unknown."""

    def is_intra(self) -> bool:
        """Whether the frame grabbed last is an I picture."""

    def retrieve(self) -> NDArray[np.uint8] | None:
        """The frame grabbed last, (h, w, 3) uint8 BGR in the header's size; None when it can't be converted.

        Raises InterlacedFrame.
        """

    def release(self) -> None:
        """Close the file."""


class Damages:
    """Counts what FFmpeg complains of while one video is decoded: the three figures of `Source`."""

    def __init__(self, log: ErrorLog | None) -> None:
        self.gaps = self.damaged = 0
        self.first_damage: tuple[float, str] | None = None
        self._log = log

    def note(self, last_seconds: float, *, frame: bool, gap: bool = False) -> None:
        """After a grab. last_seconds: of the last good frame; frame: one came; gap: over a packet that gave none."""
        line = self._log.take() if self._log else None
        self.gaps += frame and gap
        if line is None and not gap:
            return
        self.damaged += frame
        self.first_damage = self.first_damage or (last_seconds, line or "a packet that can't be decoded")


def sane_fps(fps: float) -> float | None:
    """The rate, where one can believe it."""
    return fps if _SANE_FPS[0] <= fps <= _SANE_FPS[1] else None


def sane_pixel_aspect(numerator: int, denominator: int) -> Fraction:
    """Width by height of a stored pixel; 1 where one can't believe it."""
    if numerator <= 0 or denominator <= 0:
        return Fraction(1)
    aspect = Fraction(numerator, denominator)
    return aspect if _SANE_PIXEL_ASPECT[0] <= aspect <= _SANE_PIXEL_ASPECT[1] else Fraction(1)
