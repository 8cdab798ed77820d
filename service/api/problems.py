"""Errors over HTTP: RFC 9457 problem details, one shape for every error."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.api.declared import refused
from service.api.error_page import type_of
from service.api.methods import allowed_methods
from service.api.refusal import Refusal
from service.errors import (
    Busy,
    DeadlineExceeded,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ReelserveError,
    SpoolFull,
)
from service.metrics import ERRORS, REJECTIONS
from service.video.errors import TooLongForOnline

_TURNED_AWAY = (Overloaded, Busy, TooLongForOnline, SpoolFull, DeadlineExceeded)


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(
        description="Leads to a paragraph about the error: what it means, what to do.",
        json_schema_extra={"format": "uri-reference"},
    )
    title: str = Field(description="The same for each problem of the type.")
    status: int = Field(description="The HTTP status, the same for each problem of the type.", ge=400, le=599)
    detail: str = Field(description="Of this one: the value, the limit that it broke, and the remedy.")
    code: str = Field(description="Names the type, and stays.")
    request_id: str = Field(description="As the header `X-Request-ID`.")
    value: Any = Field(default=None, description="What was refused.")
    limit: Any = Field(default=None, description="What it broke.")


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(ReelserveError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)


def answer(error: ReelserveError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response of one of our errors."""
    ERRORS.labels(error.code).inc()
    if isinstance(error, _TURNED_AWAY):
        REJECTIONS.labels(error.code).inc()
    problem = Problem(
        type=type_of(type(error)), title=error.title, status=error.status, detail=error.detail, code=error.code,
        request_id=request_id, value=error.value, limit=error.limit,
    )  # fmt: skip
    retry = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else {}
    return Refusal(problem.model_dump(exclude_none=True), error.status, retry | dict(headers or {}))


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
    """What FastAPI and Starlette refuse by themselves."""
    assert isinstance(error, HTTPException)  # noqa: S101
    request_id, asked = request_id_of(request), f"{request.method} {request.url.path}"
    match error.status_code:
        case NotFound.status:
            return answer(NotFound(f"{asked}: there is no such path; see /docs"), request_id)
        case MethodNotAllowed.status:
            allow = ", ".join(allowed_methods(request))
            refused = MethodNotAllowed(f"{asked}: this path takes {allow}; see /docs", value=request.method)
            return answer(refused, request_id, {"Allow": allow})
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    ERRORS.labels(code).inc()
    problem = Problem(  # about:blank: the status says it all (RFC 9457, 4.2.1)
        type="about:blank", title=status.phrase, status=status.value, code=code, request_id=request_id,
        detail=f"{asked}: {error.detail}; see /docs",
    )  # fmt: skip
    return Refusal(problem.model_dump(exclude_none=True), status.value, error.headers)


async def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001
    """Nobody reads it; 499 (nginx) stands in the metrics."""
    return Response(status_code=499)


def unexpected(request_id: str) -> Response:
    """The 500 of an error that nobody foresaw; its text stays in the log."""
    return answer(ReelserveError("an unexpected error; the log has it under this request_id"), request_id)
