"""What a probe finds out about a file: the types, as the API and the command line show them.

Two kinds of knowledge stand side by side: the `header` is the container's word, and costs milliseconds; the
`walk` is what decoding every frame has shown. Times in seconds, sizes in pixels.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Facts(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Promise(Facts):
    """What the header promises of the video stream; null where it says nothing usable."""

    num_frames: int | None = None
    duration_seconds: float | None = None
    fps: float | None = Field(default=None, description="Nominal frames a second.")


class Speed(Facts):
    """How fast the first frames were decoded here and now, by one core."""

    start_milliseconds: float = Field(description="For the first frame, once a video.")
    frames: int = Field(description="Frames measured after it.")
    decode_milliseconds: float = Field(description="To decode a frame, which every frame needs.")
    convert_milliseconds: float = Field(description="To turn a decoded frame into RGB, which sampled ones need.")


class Damage(Facts):
    """What FFmpeg complained of while it decoded."""

    first_seconds: float = Field(description="Timestamp of the last good frame before it.")
    words: str = Field(description="FFmpeg's words for it.")
    frames: int = Field(description="Frames that are damaged.")
    gaps: int = Field(description="Places where packets gave no frame.")


class Keyframes(Facts):
    """I pictures, and the runs of frames that begin with one; the last run ends with the video."""

    count: int
    longest_frames: int
    longest_seconds: float
    mean_seconds: float


class Walk(Facts):
    """What every frame, one after the other, has shown."""

    complete: bool = Field(description="False where a limit stopped the walk before the end.")
    num_frames: int
    duration_seconds: float = Field(description="From the stream's start to the end of the last frame.")
    first_seconds: float = Field(description="Timestamp of the first frame.")
    last_seconds: float = Field(description="Timestamp of the last frame.")
    rate: Literal["constant", "variable", "unknown"] = Field(
        description="constant: each step is within 1 ms, the rounding of containers, of the mean step."
    )
    fps: float | None = Field(description="Frames a second, on average.")
    shortest_step_seconds: float | None
    commonest_step_seconds: float | None
    longest_step_seconds: float | None
    frames_without_time: int = Field(description="Frames whose timestamp is missing, or does not rise.")
    frames_replaced: int = Field(
        default=0, description="Frames whose place the next one takes at once, as it has the same timestamp."
    )
    jumps: int = Field(default=0, description="Places where the clock jumps, as of joined recordings.")
    keyframes: Keyframes | None = Field(description="Null where the decoder doesn't tell the pictures' types.")


class Refusal(Facts):
    """The error that a prediction would be answered with, whatever the model."""

    code: str
    detail: str
    value: float | int | str | None = None
    limit: float | int | str | None = None


class ProbeFacts(Facts):
    """What a file really is; null where nobody knows."""

    container: str | None = Field(default=None, description="MediaInfo's name of the format.")
    tracks: tuple[str, ...] = Field(default=(), description="Kinds of the tracks, in order.")
    codec: str | None = Field(default=None, description="FFmpeg's name, or MediaInfo's where FFmpeg opens nothing.")
    codec_profile: str | None = None
    pixel_format: str | None = None
    bit_depth: int | None = None
    width: int | None = Field(default=None, description="Of the picture upright, stored pixels.")
    height: int | None = Field(default=None, description="Of the picture upright, stored pixels.")
    sample_aspect_ratio: str | None = Field(default=None, description="Width : height of a stored pixel.")
    rotation_degrees: int = Field(default=0, description="Clockwise turn that the player must apply.")
    mirrored: bool = Field(default=False, description="Left and right change places, before the turn.")
    video_streams: tuple[str, ...] = Field(default=(), description="Those of the file, by their numbers.")
    num_films: int = Field(default=0, description="Of them, those that are more than a thumbnail.")
    stream: int = Field(default=0, description="The one that this speaks of.")
    second_file_byte: int | None = Field(default=None, description="Where another file begins behind the first.")
    stream_start_seconds: float = Field(default=0.0, description="Of the stream, after the file's start.")
    decoder: str | None = Field(default=None, description="What decodes it: opencv or pyav.")
    scan: str | None = Field(default=None, description="Progressive, Interlaced or MBAFF.")
    hdr: str | None = Field(default=None, description="PQ, HLG or the HDR format.")
    encryption: str | None = None
    index_first: bool | None = Field(default=None, description="Whether the index lies before the frames.")
    truncated: bool = Field(default=False, description="The container promises bytes that the file doesn't have.")
    header: Promise = Promise()
    decodable: bool = Field(default=False, description="Whether a frame came out; false where a limit forbade to try.")
    refusal: Refusal | None = None
    speed: Speed | None = None
    damage: Damage | None = None
    walk: Walk | None = Field(default=None, description="When `full` was asked for, or the file is that short.")

    @property
    def interlaced(self) -> bool:
        """Whether a frame holds two fields of different times."""
        return self.scan not in (None, "Progressive")

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a stored pixel by its height."""
        return Fraction((self.sample_aspect_ratio or "1:1").replace(":", "/"))

    @property
    def num_frames(self) -> int | None:
        """Counted where they were, else promised."""
        return self.walk.num_frames if self.walk else self.header.num_frames

    @property
    def duration_seconds(self) -> float | None:
        """Measured where it was, else promised."""
        return self.walk.duration_seconds if self.walk else self.header.duration_seconds

    @property
    def fps(self) -> float | None:
        """Measured where it was, else promised."""
        return (self.walk and self.walk.fps) or self.header.fps
