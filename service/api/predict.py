"""POST /v1/predict: a clip in, labels with scores and times out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import Header, Query, Request, Response
from pydantic import Field

from service.api.asked import Asked, models_asked
from service.api.examples import example
from service.api.methods import Router
from service.api.openapi import headers, problems
from service.api.problems import request_id_of
from service.api.upload import UPLOAD_ERRORS, ClipForm, received, request_body
from service.engine.shared import LoadedModel
from service.errors import (
    BadParameter,
    Busy,
    DeadlineExceeded,
    EngineFailed,
    EngineLost,
    NotReady,
)
from service.metrics import STAGE_SECONDS
from service.model_errors import MODEL_ERRORS
from service.parameters import NUMBER, PredictParameters
from service.pipeline import ClipRequest
from service.results import Prediction, Predictions, Timing
from service.serving import Serving
from service.settings import Settings
from service.spool import Spool
from service.video.errors import DecoderLost, VideoError
from service.wording import UNIT

router = Router(tags=["predict"])

# Of several models' answers to one clip these are each one's own; the rest was done once.
_OWN_STAGES = frozenset({"head", "post"})
# Of the request, whatever was done in it.
_WHOLE = frozenset({"upload", "total"})


RequestTimeout = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False), NUMBER] | None,
    Header(
        alias="X-Request-Timeout",
        json_schema_extra={UNIT: "seconds"},
        description="Seconds from the upload's end to the answer; without it the service's `request_timeout_seconds`. "
        "What would be late is refused before it costs anything (429, 413, 504).",
        openapi_examples={
            "interactive": {"summary": "someone waits", "value": 2.5},
            "film": {"summary": "a film of two hours", "value": 3600},
        },
    ),
]


class PredictForm(PredictParameters, ClipForm):
    """A form with one clip (RFC 7578), and what is asked for."""


@router.post("/predict", include_in_schema=False)  # the path of BentoML's own client
@router.post(
    "/v1/predict",
    response_model=Prediction | Predictions,
    responses=problems(
        *MODEL_ERRORS,
        NotReady,
        *UPLOAD_ERRORS,
        VideoError,
        *VideoError.__subclasses__(),
        Busy,
        DeadlineExceeded,
        EngineFailed,
        EngineLost,
        DecoderLost,
    )
    | {200: {"content": {"application/json": example("predict")}, **headers("Server-Timing")}},
    openapi_extra={"requestBody": request_body(PredictForm)},
    summary="Classify a clip",
)
async def predict(
    request: Request, query: Annotated[PredictParameters, Query()], request_timeout: RequestTimeout = None
) -> Response:
    """Upload one clip and get its labels, its segments, a receipt of the frames that were seen, and the time it took.

    `curl -F video=@clip.mp4 'http://127.0.0.1:3000/v1/predict?top_k=3'`
    """
    serving: Serving = request.app.state.serving
    spool: Spool = request.app.state.spool
    timeout_seconds = _allowed(request_timeout, serving.settings)
    asked = Asked(request, query)
    check = partial(models_asked, asked, serving, serving.models_of)
    check()  # what no model takes is refused before the upload
    async with received(
        request,
        spool,
        serving.settings,
        asked,
        check,
        admit=lambda: serving.check_headers(timeout_seconds),
        backlog_seconds=serving.shared.admission.retry_after_seconds,
    ) as upload:
        submitted = time.perf_counter()
        models, query = check(), asked.parameters()
        clip = ClipRequest(
            path=upload.path,
            sha256=upload.sha256,
            options=query.options(),
            start_seconds=query.start_seconds,
            end_seconds=math.inf if query.end_seconds is None else query.end_seconds,
            stream=query.stream,
            strict=query.strict,
            upload_seconds=upload.seconds,
            submitted=submitted,
            deadline=submitted + timeout_seconds,
            request_id=request_id_of(request),
            cancelled=upload.cancelled,
        )
        predictions = await upload.run(serving.pool, lambda: serving.predict(clip, models))
    timing = _together(models, predictions)
    for stage, milliseconds in timing.model_dump().items():
        STAGE_SECONDS.labels(stage).observe(milliseconds / 1e3)
    answer = predictions[0] if len(predictions) == 1 else Predictions(results=predictions)
    return Response(
        answer.model_dump_json(), media_type="application/json", headers={"Server-Timing": _server_timing(timing)}
    )


def _allowed(asked_seconds: float | None, settings: Settings) -> float:
    """Raises BadParameter when a client asks for more time than it may."""
    if asked_seconds is None:
        return settings.request_timeout_seconds
    limit = settings.max_request_timeout_seconds
    if asked_seconds > limit:
        raise BadParameter(
            f"X-Request-Timeout is {asked_seconds:g} s, the limit is {limit:g} s; ask for less, or raise "
            "max_request_timeout_seconds",
            value=asked_seconds,
            limit=limit,
        )
    return asked_seconds


def _together(models: Sequence[LoadedModel], predictions: Sequence[Prediction]) -> Timing:
    """The time that a clip took in all models: what models share was done once, for those that see the same frames."""
    passes: dict[tuple[str, ...], list[Timing]] = {}
    for model, prediction in zip(models, predictions, strict=True):
        passes.setdefault(model.sees, []).append(prediction.timing_ms)

    def of(stage: str) -> float:
        each: list[list[float]] = [[getattr(timing, stage) for timing in timings] for timings in passes.values()]
        if stage in _WHOLE:
            return max(max(times) for times in each)
        return sum(sum(times) if stage in _OWN_STAGES else max(times) for times in each)

    return Timing(**{stage: round(of(stage), 3) for stage in Timing.model_fields})


def _server_timing(timing: Timing) -> str:
    """W3C Server Timing: `decode;dur=12.3, …`, milliseconds."""
    return ", ".join(f"{stage};dur={milliseconds:g}" for stage, milliseconds in timing.model_dump().items())
