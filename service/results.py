"""What a prediction is: one set of types for the HTTP API, jobs and the command line."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CacheOutcome = Literal["hit", "miss", "off"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelName(_Result):
    """The model that answered."""

    name: str
    version: str
    task: str = Field(description="`clip`: one answer a window; `frame`: one a tick.")
    sha256: str = Field(description="SHA-256 of canonical model.json, which holds the hashes of both graphs.")


class LabelScore(_Result):
    """A label and its score in [0, 1]."""

    label: str
    score: float


class Segment(_Result):
    """A run of the timeline with one best label; its score is the mean over the run's cells."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float


class Receipt(_Result):
    """The temporal receipt: which frames of which file were seen, and by what."""

    sha256: str = Field(description="SHA-256 of the file.")
    duration_seconds: float = Field(description="From the stream's start to the end of the last frame walked.")
    stream_start_seconds: float = Field(
        description="The stream's start after the file's: add it to any time here for one that counts from there."
    )
    width: int = Field(description="Stored pixels, upright.")
    height: int = Field(description="Stored pixels, upright.")
    sample_aspect_ratio: str = Field(description="Width to height of a stored pixel; a crop honours it.")
    container: str | None = Field(description="As its headers say.")
    codec: str
    decoder: str = Field(description="The library that decoded it: opencv or pyav.")
    pixel_format: str | None = Field(description="Colour space and chroma subsampling.")
    bit_depth: int | None
    interlaced: bool = Field(description="Two fields of different times in a frame; reported, not corrected.")
    hdr: str | None = Field(description="Transfer function or HDR format; its colours were mapped to standard range.")
    rotation_degrees: int = Field(description="Clockwise turn that was applied.")
    mirrored: bool = Field(description="Left and right were exchanged, before the turn.")
    time_base: str = Field(description="`pts`, or `nominal` where timestamps were unusable.")
    frames_walked: int = Field(description="Frames of the video up to the end, or to `end_seconds`.")
    frames_decoded: int = Field(description="Sampled frames whose pixels were asked for.")
    frames_used: int = Field(description="Frames that went through the encoder.")
    frames_repeated: int = Field(description="Ticks served by a frame that served one before.")
    frames_dropped: int = Field(description="Sampled frames that gave no pixels.")
    frames_damaged: int = Field(description="Frames walked of which the decoder complained; it conceals the damage.")
    first_seconds: float = Field(description="Timestamp of the first frame used.")
    last_seconds: float = Field(description="Timestamp of the last frame used.")
    origin_seconds: float = Field(
        description="First tick of the sampling grid; tick k is at origin + k / sample_fps, or at its frame's own time."
    )
    ticks: int = Field(description="Ticks of the sampling grid.")
    ticks_end_seconds: float = Field(
        description="End of the last tick: 1 / sample_fps after it, or the stream's; without a rate its frame's."
    )
    sample_fps: float | None = Field(description="Ticks a second; null: every frame is one, at its own time.")
    spec_sha256: str
    region: str | None = Field(
        description="The part of the upright picture that was seen, `x,y,width,height` in pixels; null: all of it, as "
        "far as the model's frame takes it."
    )
    window_frames: int | None = Field(description="Ticks of a window, as asked for or the model's own; null: the clip.")
    stride_frames: int | None = Field(description="Ticks from one window to the next.")
    runtime: str
    precision: str
    cache: CacheOutcome = Field(
        description="Whether the features were there from an earlier request over the same frames: nothing was decoded."
    )


class Timing(_Result):
    """Busy time of each stage for this request, milliseconds; stages overlap, so they needn't add up to `total`."""

    upload: float
    probe: float
    decode: float
    queue: float
    encode: float
    head: float
    post: float
    total: float


class Prediction(_Result):
    """The answer for one clip and one model."""

    request_id: str
    model: ModelName
    predictions: list[LabelScore] = Field(
        description="Best labels over the whole clip: the mean over its windows, or over the ticks of a frame model."
    )
    abstained: bool = Field(
        default=False,
        description="The best score is below the threshold in model.json (`abstain`): it is probably none of the "
        "labels. `predictions` has them all the same. Always false for a model without a threshold.",
    )
    segments: list[Segment] = Field(
        description="Merged windows, one segment when the clip is no longer than one; merged ticks of a frame model."
    )
    receipt: Receipt
    timing_ms: Timing
    warnings: list[str]


class Predictions(_Result):
    """The answers of several models for one clip, in the order that they were named."""

    results: list[Prediction]
