"""The clip spec: all that decides which pixels a model sees. It travels in `model.json`."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

ResizePolicy = Literal["crop", "stretch"]


class ClipSpec(BaseModel):
    """How a video becomes ticks of RGB frames, and ticks become windows.

    `crop` keeps the centre of the picture as shown (with the sample aspect ratio) with the target's aspect
    ratio; `stretch` keeps every pixel and distorts. Both halve each side while it is at least twice the
    target (mean of neighbours), then go bilinearly to the target (see `service.video.frames`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_fps: float = Field(gt=0, le=240, description="Ticks per second of the sampling grid.")
    frame_height: int = Field(ge=16, le=4096, description="Height of an encoder frame, pixels.")
    frame_width: int = Field(ge=16, le=4096, description="Width of an encoder frame, pixels.")
    resize: ResizePolicy = Field(default="crop", description="Fit of the source into the encoder frame.")
    window_frames: int | None = Field(default=None, ge=1, description="Ticks of a window; null: the whole clip.")
    stride_frames: int | None = Field(default=None, ge=1, description="Ticks from one window to the next.")
    min_frames: int = Field(default=1, ge=1, description="Fewer ticks than this: 422 too_short.")

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> ClipSpec:
        if (self.window_frames is None) != (self.stride_frames is None):
            raise ValueError("window_frames and stride_frames are set together, or both null")
        if self.window_frames and self.stride_frames and self.stride_frames > self.window_frames:
            raise ValueError(
                f"stride_frames {self.stride_frames} > window_frames {self.window_frames} leaves ticks that no "
                "window covers; lower the stride"
            )
        return self

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON (sorted keys, no white space), hex."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def pixels_sha256(self) -> str:
        """SHA-256 over what decides the pixels and ticks alone; windows don't change stored features."""
        pixels = self.model_dump(exclude={"window_frames", "stride_frames", "min_frames"})
        return hashlib.sha256(json.dumps(pixels, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
