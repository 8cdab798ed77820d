"""POST /v1/predict: a clip in, labels with scores and times out."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.body import FIELD, Body, receive_video
from service.api.examples import example
from service.api.problems import PROBLEM_RESPONSES, request_id_of
from service.errors import Overloaded
from service.metrics import IN_FLIGHT, STAGE_SECONDS
from service.pipeline import ClipRequest, LoadedModel
from service.results import Prediction, Timing
from service.serving import Serving
from service.spool import Spool

router = APIRouter(tags=["predict"])

_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The clip: as the file field `video` of a form, or as the raw body.",
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _BINARY}},
        },
        "video/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
    },
}


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
    openapi_extra={"requestBody": _REQUEST_BODY},
    summary="Classify a clip",
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """Upload one clip and get its labels, its segments, a receipt of the frames that were seen, and the time it took.

    `curl -F video=@clip.mp4 'http://127.0.0.1:3000/v1/predict?top_k=3'`
    """
    serving: Serving = request.app.state.serving
    spool: Spool = request.app.state.spool
    model = serving.model(query.model)
    with _admitted(serving.settings.max_requests_in_flight), spool.open() as file:
        started = time.perf_counter()
        body = await receive_video(request, file, serving.settings)
        clip = ClipRequest(
            path=file.path,
            sha256=file.sha256,
            top_k=query.top_k,
            start_seconds=query.start_seconds,
            end_seconds=math.inf if query.end_seconds is None else query.end_seconds,
            strict=query.strict,
            upload_seconds=time.perf_counter() - started,
            submitted=time.perf_counter(),
            request_id=request_id_of(request),
        )
        prediction = await _while_connected(body, serving, clip, model)
    _observe(prediction.timing_ms)
    return Response(
        prediction.model_dump_json(),
        media_type="application/json",
        headers={"Server-Timing": _server_timing(prediction.timing_ms)},
    )


async def _while_connected(body: Body, serving: Serving, clip: ClipRequest, model: LoadedModel) -> Prediction:
    """Predict in the pool; when the client goes away, stop between chunks. The file must outlive the work."""
    work = asyncio.get_running_loop().run_in_executor(serving.pool, serving.predict, clip, model)
    gone = asyncio.create_task(body.disconnected())
    try:
        waited: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            clip.cancelled.set()
        return await work
    finally:
        clip.cancelled.set()  # the server may be the one that stops
        gone.cancel()


_in_flight = 0


@contextlib.contextmanager
def _admitted(limit: int) -> Iterator[None]:
    """Count a prediction; runs on the event loop only, so that a plain integer will do."""
    global _in_flight
    if _in_flight >= limit:
        raise Overloaded(
            f"{_in_flight} predictions are in flight, the limit is {limit}; try again later, or raise "
            "max_requests_in_flight",
            value=_in_flight,
            limit=limit,
        )
    _in_flight += 1
    IN_FLIGHT.set(_in_flight)
    try:
        yield
    finally:
        _in_flight -= 1
        IN_FLIGHT.set(_in_flight)


def _observe(timing: Timing) -> None:
    for stage, milliseconds in timing.model_dump().items():
        STAGE_SECONDS.labels(stage).observe(milliseconds / 1e3)


def _server_timing(timing: Timing) -> str:
    """W3C Server Timing: `decode;dur=12.3, …`, milliseconds."""
    return ", ".join(f"{stage};dur={milliseconds:g}" for stage, milliseconds in timing.model_dump().items())
