"""Liveness, readiness and metrics. BentoML's own three health paths are routed here (see `service.app`)."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from service.api.methods import Router
from service.api.openapi import problems
from service.errors import NotReady
from service.memory import Memory
from service.metrics import CONTENT_TYPE, MEMORY_LIMIT_BYTES, MEMORY_USED_BYTES, QUEUE_FRAMES, exposition
from service.serving import Serving

router = Router(tags=["operation"])


class ReadyState(BaseModel):
    """The body of a healthy /livez or /readyz."""

    status: str = Field(examples=["ok"])


@router.get("/livez", summary="Is the process alive", responses=problems())
async def livez() -> ReadyState:
    """200 from the first second on; restart the process when it is not."""
    return ReadyState(status="ok")


@router.get("/healthz", include_in_schema=False)
@router.get("/readyz", summary="Can it predict", responses=problems(NotReady))
async def readyz(request: Request) -> ReadyState:
    """200 once the models are verified, loaded and warmed up; before, and when the default model is refused, 503."""
    serving: Serving = request.app.state.serving
    if problem := serving.problem():
        raise NotReady(problem)
    return ReadyState(status="ready")


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses=problems())
async def metrics(request: Request) -> Response:
    """Text format 0.0.4."""
    serving: Serving = request.app.state.serving
    for priority, num_frames in serving.waiting_frames().items():
        QUEUE_FRAMES.labels(priority.name.lower()).set(num_frames)
    memory = Memory.now(serving.settings.memory_limit_bytes)
    MEMORY_LIMIT_BYTES.set(memory.limit)
    MEMORY_USED_BYTES.set(memory.used)
    return Response(exposition(), media_type=CONTENT_TYPE)
