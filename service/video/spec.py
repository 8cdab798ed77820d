"""The clip spec: all that decides which pixels a model sees. It travels in `model.json`."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.video.region import Region

ResizePolicy = Literal["crop", "stretch"]


class ClipSpec(BaseModel):
    """How a video becomes ticks of RGB frames, and ticks become windows.

    Without `sample_fps` the frames themselves are the ticks, one each, however long it is shown (see
    `service.video.grid`): for models that must see every frame. Windows then count frames, of whatever rate they are.
    `region` is cut out of the picture first.
    `crop` keeps the centre of the picture as shown (with the sample aspect ratio) with the target's aspect
    ratio; `stretch` keeps every pixel and distorts. Both halve each side while it is at least twice the
    target (mean of neighbours), then go bilinearly to the target (see `service.video.frames`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_fps: float | None = Field(
        gt=0, le=240, description="Ticks per second of the sampling grid; null: every frame is one, at its own time."
    )
    frame_height: int = Field(ge=16, le=4096, description="Height of an encoder frame, pixels.")
    frame_width: int = Field(ge=16, le=4096, description="Width of an encoder frame, pixels.")
    region: Region | None = Field(
        default=None, description="The part of the upright picture that is seen, before the resize; null: all of it."
    )
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
        """SHA-256 of the canonical JSON (sorted keys, no white space; no `region` where there is none), hex."""
        return self._sha256(set())

    @property
    def pixels_sha256(self) -> str:
        """SHA-256 over what decides the pixels and ticks alone; windows don't change stored features."""
        return self._sha256({"window_frames", "stride_frames", "min_frames"})

    def _sha256(self, exclude: set[str]) -> str:
        said = self.model_dump(exclude=exclude | (set() if self.region else {"region"}))
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
