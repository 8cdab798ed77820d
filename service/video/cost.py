"""What a prediction would cost: from how long a video is, how fast it decodes and the model's grid. Pure functions."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.video.facts import ProbeFacts
from service.video.grid import SamplingGrid
from service.video.spec import ClipSpec


class Cost(BaseModel):
    """A forecast for one core that does nothing else; it is as good as its `basis`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basis: Literal["header", "walk"] = Field(description="Whether the length is the header's word or was measured.")
    frames_decoded: int = Field(description="Every frame up to the end.")
    ticks: int = Field(description="Samples on the model's grid; of a model that sees every frame those.")
    frames_encoded: int = Field(description="Frames that serve a tick: at most one a tick, and none twice.")
    decode_milliseconds: float | None = Field(description="Decoding all and converting the sampled.")
    encode_milliseconds: float | None = Field(description="Null where nobody has measured the encoder.")


def forecast(facts: ProbeFacts, spec: ClipSpec, encode_frame_seconds: float | None = None) -> Cost | None:
    """The cost for a model with this spec; None where no frame comes, or the file doesn't tell its length."""
    frames, seconds = num_frames(facts), facts.duration_seconds
    if not facts.decodable or not frames or seconds is None:
        return None
    ticks = num_ticks(facts, spec)
    encoded = min(ticks, frames)
    speed = facts.speed
    decode = None
    if speed is not None:
        decode = speed.start_milliseconds + frames * speed.decode_milliseconds + encoded * speed.convert_milliseconds
    return Cost(
        basis="walk" if facts.walk else "header",
        frames_decoded=frames,
        ticks=ticks,
        frames_encoded=encoded,
        decode_milliseconds=None if decode is None else round(decode, 1),
        encode_milliseconds=None if encode_frame_seconds is None else round(encoded * encode_frame_seconds * 1e3, 1),
    )


def num_frames(facts: ProbeFacts) -> int | None:
    """Counted, promised, or duration times rate."""
    if facts.num_frames:
        return facts.num_frames
    if facts.fps and facts.duration_seconds:
        return max(1, round(facts.fps * facts.duration_seconds))
    return None


def num_ticks(facts: ProbeFacts, spec: ClipSpec) -> int:
    """Ticks from the first frame to the last one's end; 0 where the length is unknown."""
    if spec.sample_fps is None:
        return (num_frames(facts) or 0) - (facts.walk.frames_replaced if facts.walk else 0)
    if facts.duration_seconds is None:
        return 0
    first_seconds = facts.walk.first_seconds if facts.walk else 0.0
    return SamplingGrid(spec.sample_fps).due(first_seconds, facts.duration_seconds)
