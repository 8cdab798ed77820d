"""What a request may ask of answers: the same names for predictions and jobs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from service.answers import AnswerOptions


class AnswerQuery(BaseModel):
    """An unknown name is refused, as it is a typing error more often than not."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(default=5, ge=1, le=1000, description="How many labels to return.")
    window: int | None = Field(default=None, ge=1, description="Sampled frames of a window; without it the model's.")
    stride: int | None = Field(
        default=None, ge=1, description="Sampled frames from one window to the next; without it the model's."
    )
    min_score: float | None = Field(
        default=None, allow_inf_nan=False, description="Leave out segments with a lower score."
    )
    min_segment_seconds: float = Field(
        default=0.0, ge=0.0, allow_inf_nan=False, description="Merge shorter segments into a neighbour."
    )
    smoothing: int = Field(
        default=1, ge=1, le=1001, description="Mean over so many cells of the timeline, an odd number; 1: none."
    )
    strict: bool = Field(default=False, description="Refuse a damaged video (422 corrupt_video) instead of warning.")

    def options(self) -> AnswerOptions:
        """What is wanted of the answer. Raises BadParameter."""
        return AnswerOptions(
            top_k=self.top_k,
            window_frames=self.window,
            stride_frames=self.stride,
            min_score=self.min_score,
            min_segment_seconds=self.min_segment_seconds,
            smoothing_cells=self.smoothing,
        )
