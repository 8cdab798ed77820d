"""Errors over HTTP: RFC 9457 problem details, one shape for every error."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.api.declared import refused
from service.api.examples import example
from service.api.refusal import MEDIA_TYPE, Refusal
from service.errors import Busy, DeadlineExceeded, Overloaded, ReelserveError, SpoolFull
from service.metrics import ERRORS, REJECTIONS
from service.video.errors import TooLongForOnline

_TURNED_AWAY = (Overloaded, Busy, TooLongForOnline, SpoolFull, DeadlineExceeded)


class Problem(BaseModel):
    """RFC 9457 problem details; `code` is stable, `value` and `limit` are what clashed."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    value: Any = None
    limit: Any = None


def _responses(codes: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI, by status."""
    schema = Problem.model_json_schema()
    return {
        status: {"description": text, "content": {MEDIA_TYPE: {"schema": schema, **example(f"problem {status}")}}}
        for status, text in codes.items()
    }


PROBLEM_RESPONSES = _responses({
    400: "no_file, empty_file, malformed_upload, bad_parameter",
    404: "unknown_model, model_refused",
    408: "upload_timeout",
    413: "too_large, too_long, too_many_pixels, too_many_frames; too_long_for_online: send it to /v1/jobs",
    415: "unsupported_media_type, codec_not_supported",
    422: "bad_video, not_a_video, no_video_stream, no_decodable_frame, corrupt_video, size_changed, too_short, "
    "decode_timeout, decode_memory, decoder_crashed",
    429: "busy: what waits would make it late; try again after Retry-After seconds",
    500: "engine_failed, bad_bundle, internal",
    503: "not_ready, overloaded, spool_full, decoder_lost, engine_lost",
    504: "deadline_exceeded: late by X-Request-Timeout; what needs longer belongs to /v1/jobs",
    507: "disk_full",
})  # fmt: skip
# Of a job as a whole; what is wrong with an item stands in its row.
JOB_PROBLEM_RESPONSES = _responses({
    400: "bad_job, bad_input, bad_parameter, no_file, malformed_upload",
    403: "uri_not_allowed",
    404: "unknown_job, unknown_model, model_refused",
    408: "upload_timeout",
    413: "too_large, too_many_items",
    415: "unsupported_media_type",
    422: "idempotency_mismatch",
    500: "internal",
    503: "jobs_unavailable, not_ready, spool_full",
    507: "disk_full",
})  # fmt: skip


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(ReelserveError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)


def answer(error: ReelserveError, request_id: str) -> Response:
    """The response of one of our errors."""
    ERRORS.labels(error.code).inc()
    if isinstance(error, _TURNED_AWAY):
        REJECTIONS.labels(error.code).inc()
    problem = Problem(
        title=error.title, status=error.status, detail=error.detail, code=error.code, request_id=request_id,
        value=error.value, limit=error.limit,
    )  # fmt: skip
    headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else None
    return Refusal(problem.model_dump(exclude_none=True), error.status, headers)


def request_id_of(request: Request) -> str:
    """As `RequestContext` set it."""
    request_id: str = request.scope["state"]["request_id"]
    return request_id


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReelserveError)  # noqa: S101  (registered for this class)
    return answer(error, request_id_of(request))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return answer(refused(request, error), request_id_of(request))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    ERRORS.labels(code).inc()
    problem = Problem(
        title=status.phrase, status=status.value, code=code, request_id=request_id_of(request),
        detail=f"{request.method} {request.url.path}: {error.detail}; see /docs",
    )  # fmt: skip
    return Refusal(problem.model_dump(exclude_none=True), status.value, error.headers)


async def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Nobody reads it; 499 (nginx) stands in the metrics."""
    return Response(status_code=499)


def unexpected(request_id: str) -> Response:
    """The 500 of an error that nobody foresaw; its text stays in the log."""
    return answer(ReelserveError("an unexpected error; the log has it under this request_id"), request_id)
