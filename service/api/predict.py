"""POST /v1/predict: a clip in, labels with scores and times out."""

from __future__ import annotations

import math
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.examples import example
from service.api.problems import PROBLEM_RESPONSES, request_id_of
from service.api.upload import REQUEST_BODY, received
from service.metrics import STAGE_SECONDS
from service.pipeline import ClipRequest
from service.results import Prediction, Timing
from service.serving import Serving
from service.spool import Spool

router = APIRouter(tags=["predict"])


class PredictQuery(BaseModel):
    """Query of a prediction; an unknown name is refused, as it is a typing error more often than not."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Model name; without it the default one.")
    top_k: int = Field(default=5, ge=1, le=1000, description="How many labels to return.")
    start_seconds: float = Field(default=0.0, ge=0.0, allow_inf_nan=False, description="Skip what is before.")
    end_seconds: float | None = Field(default=None, gt=0.0, allow_inf_nan=False, description="Skip what is after.")

    strict: bool = Field(default=False, description="Refuse a damaged video (422 corrupt_video) instead of warning.")

    @model_validator(mode="after")
    def _in_order(self) -> PredictQuery:
        if self.end_seconds is not None and self.end_seconds <= self.start_seconds:
            raise ValueError(f"end_seconds {self.end_seconds:g} must be after start_seconds {self.start_seconds:g}")
        return self


@router.post("/predict", include_in_schema=False)  # the path of BentoML's own client
@router.post(
    "/v1/predict",
    response_model=Prediction,
    responses=PROBLEM_RESPONSES | {200: {"content": {"application/json": example("predict")}}},
    openapi_extra={"requestBody": REQUEST_BODY},
    summary="Classify a clip",
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """Upload one clip and get its labels, its segments, a receipt of the frames that were seen, and the time it took.

    `curl -F video=@clip.mp4 'http://127.0.0.1:3000/v1/predict?top_k=3'`
    """
    serving: Serving = request.app.state.serving
    spool: Spool = request.app.state.spool
    model = serving.model(query.model)
    async with received(request, spool, serving.settings) as upload:
        clip = ClipRequest(
            path=upload.path,
            sha256=upload.sha256,
            top_k=query.top_k,
            start_seconds=query.start_seconds,
            end_seconds=math.inf if query.end_seconds is None else query.end_seconds,
            strict=query.strict,
            upload_seconds=upload.seconds,
            submitted=time.perf_counter(),
            request_id=request_id_of(request),
            cancelled=upload.cancelled,
        )
        prediction = await upload.run(serving.pool, lambda: serving.predict(clip, model))
    _observe(prediction.timing_ms)
    return Response(
        prediction.model_dump_json(),
        media_type="application/json",
        headers={"Server-Timing": _server_timing(prediction.timing_ms)},
    )


def _observe(timing: Timing) -> None:
    for stage, milliseconds in timing.model_dump().items():
        STAGE_SECONDS.labels(stage).observe(milliseconds / 1e3)


def _server_timing(timing: Timing) -> str:
    """W3C Server Timing: `decode;dur=12.3, …`, milliseconds."""
    return ", ".join(f"{stage};dur={milliseconds:g}" for stage, milliseconds in timing.model_dump().items())
