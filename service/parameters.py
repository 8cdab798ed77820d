"""All that may be asked of clips: each parameter's name, unit, range and meaning, in one place.

The query, the fields of forms, JSON bodies, the flags of commands and /docs are made from these.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.errors import BadParameter
from service.wording import UNIT

if TYPE_CHECKING:
    from service.answers import AnswerOptions  # OpenCV: half a second, for those who answer

# Far beyond any video; times go into sums and products that must stay finite.
MOST_SECONDS = 1e9
_MOST_TICKS = 1_000_000
_LAST_STREAM = 999  # FFmpeg opens no file with more
_DECIMAL = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _number(value: object) -> object:
    """No `true`, no `1_000`: what is no number to JSON is none in a query either."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DECIMAL.fullmatch(value)):
        raise PydanticCustomError("number", "no number")
    return value


def _one_line(text: str) -> str:
    """No database takes a zero byte, no log a line break, and no answer half of a letter in UTF-16."""
    if _CONTROL.search(text):
        raise PydanticCustomError("line", "no line of text")
    return text


NUMBER = BeforeValidator(_number)
Count = Annotated[int, NUMBER]
Number = Annotated[float, NUMBER]
Line = Annotated[str, AfterValidator(_one_line)]
# Bounds of what may be left out stand before `NUMBER`: pydantic writes those after it as `ge`, which no schema knows.
Ticks = Annotated[int, Field(ge=1, le=_MOST_TICKS), NUMBER]
Stream = Annotated[int, Field(ge=0, le=_LAST_STREAM), NUMBER]
Region = Annotated[str, Field(min_length=7, max_length=100, pattern=r"^[0-9., ]+$")]
StartSeconds = Annotated[
    float,
    Field(
        ge=0.0, le=MOST_SECONDS, allow_inf_nan=False,
        description="Skip what is before, in seconds from the start of the video stream.",
    ),
    NUMBER,
]  # fmt: skip
EndSeconds = Annotated[
    Annotated[float, Field(gt=0.0, le=MOST_SECONDS, allow_inf_nan=False), NUMBER] | None,
    Field(description="Skip what is after, in seconds from the start of the video stream; without it nothing."),
]


def _of(unit: str) -> dict[str, Any]:
    return {UNIT: unit}


class ClipParameters(BaseModel):
    """Of every request about clips. An unknown name is refused, as it is a typing error more often than not."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    of_items: ClassVar[tuple[str, ...]] = ()  # names that would be another for each of several clips

    model: Line | None = Field(
        default=None, min_length=1, max_length=1000, description="Model name; without it the default one."
    )
    stream: Stream | None = Field(
        default=None,
        description="Number of the file's video stream, from 0; without it the one that players take.",
    )


class AnswerParameters(ClipParameters):
    """What is wanted of answers."""

    of_items = ("start_seconds", "end_seconds")
    top_k: Count = Field(
        default=5, ge=1, le=1000, json_schema_extra=_of("labels"),
        description="How many labels to return, the best first.",
    )  # fmt: skip
    window: Ticks | None = Field(
        default=None, json_schema_extra=_of("ticks"),
        description="Length of a window in ticks, the samples of the model's grid (`sample_fps` of them a second, or "
        "every frame of a model without a rate); without it the model's.",
    )  # fmt: skip
    stride: Ticks | None = Field(
        default=None, json_schema_extra=_of("ticks"),
        description="From one window to the next, in ticks; without it the model's.",
    )  # fmt: skip
    region: Region | None = Field(
        default=None, json_schema_extra=_of("pixels, or fractions"),
        description="Look at this part of the upright picture alone: `x,y,width,height` from its upper left corner, in "
        "pixels, or in fractions of its sides where no number is above 1; without it what the model takes.",
    )  # fmt: skip
    min_score: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False), NUMBER] | None = Field(
        default=None,
        description="Leave out segments with a lower score; scores are from 0 to 1, without a unit.",
    )  # fmt: skip
    min_segment_seconds: Number = Field(
        default=0.0, ge=0.0, le=MOST_SECONDS, allow_inf_nan=False,
        description="Merge segments that are shorter, in seconds, into a neighbour.",
    )  # fmt: skip
    smoothing: Count = Field(
        default=1, ge=1, le=1001, json_schema_extra=_of("cells"),
        description="Mean over so many cells of the timeline (a cell is `stride` ticks, of a frame model one tick), an "
        "odd number; 1: none.",
    )  # fmt: skip
    strict: bool = Field(default=False, description="Refuse a damaged video (422 corrupt_video) instead of warning.")

    def options(self) -> AnswerOptions:
        """What is wanted of the answer. Raises BadParameter."""
        from service.answers import AnswerOptions

        return AnswerOptions(
            top_k=self.top_k,
            window_frames=self.window,
            stride_frames=self.stride,
            min_score=self.min_score,
            min_segment_seconds=self.min_segment_seconds,
            smoothing_cells=self.smoothing,
            region=self.region,
        )


class PredictParameters(AnswerParameters):
    """Of a prediction."""

    model: Line | None = Field(
        default=None, min_length=1, max_length=1000,
        description="Model name; without it the default one. Over HTTP several, `a,b`, are answered as `results`.",
    )  # fmt: skip
    start_seconds: StartSeconds = 0.0
    end_seconds: EndSeconds = None

    @model_validator(mode="after")
    def _in_order(self) -> PredictParameters:
        """Raises BadParameter, which goes through pydantic as it is."""
        start, end = self.start_seconds, self.end_seconds
        if end is not None and end <= start:
            raise BadParameter(
                f"end_seconds is {end:g}, start_seconds is {start:g}, and the end must be after the start; give a "
                "later end, or an earlier start",
                value=end,
                limit=start,
            )
        return self


class ProbeParameters(ClipParameters):
    """Of a probe."""

    model: Line | None = Field(
        default=None, min_length=1, max_length=1000, description="Model of the cost; without it the default one."
    )
    full: bool = Field(default=False, description="Decode every frame: counts, rate, keyframes and damage.")


class JobParameters(AnswerParameters):
    """Of a job: what is wanted of every item."""

    webhook_url: Line | None = Field(
        default=None, min_length=1, max_length=8192,
        description="Told once when the job has finished, by a signed POST.",
    )  # fmt: skip
