"""POST /v1/probe: what a file really is, and what a prediction of it would cost; nothing is inferred."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel, Field

from service.api.asked import Asked, models_asked
from service.api.examples import example
from service.api.methods import Router
from service.api.openapi import problems
from service.api.problems import request_id_of
from service.api.upload import UPLOAD_ERRORS, ClipForm, received, request_body
from service.errors import NotReady
from service.model_errors import MODEL_ERRORS
from service.parameters import ProbeParameters
from service.probing import Probe
from service.serving import Serving
from service.spool import Spool
from service.video.errors import DecodeMemory, DecoderCrashed, DecoderLost, DecodeTimeout, NotAVideo

router = Router(tags=["probe"])


class _Identity(BaseModel):
    """Which request, which bytes."""

    request_id: str
    sha256: str = Field(description="SHA-256 of the file.")


class ProbeForm(ProbeParameters, ClipForm):
    """A form with one clip (RFC 7578), and what is asked for."""


class ProbeAnswer(Probe, _Identity):
    """The answer for one upload. In `mend`, INPUT stands for the file's name."""


@router.post(
    "/v1/probe",
    response_model=ProbeAnswer,
    responses=problems(
        *MODEL_ERRORS,
        NotReady,
        *UPLOAD_ERRORS,
        NotAVideo,
        DecodeTimeout,
        DecodeMemory,
        DecoderCrashed,
        DecoderLost,
    )
    | {200: {"content": {"application/json": example("probe")}}},
    openapi_extra={"requestBody": request_body(ProbeForm)},
    summary="Say what a clip really is",
)
async def probe(request: Request, query: Annotated[ProbeParameters, Query()]) -> ProbeAnswer:
    """Upload one clip and get what it really is, what a prediction would cost, what is wrong and what mends it.

    A file that a prediction would refuse is answered too, as long as its headers name a video or its container:
    `video.refusal` is the error. Only a file that nobody knows is an error here.

    `curl -F video=@clip.mp4 'http://127.0.0.1:3000/v1/probe?full=true'`
    """
    serving: Serving = request.app.state.serving
    spool: Spool = request.app.state.spool
    asked = Asked(request, query)
    check = partial(models_asked, asked, serving, lambda name: [serving.model(name)])
    check()
    async with received(request, spool, serving.settings, asked, check) as upload:
        [model], query = check(), asked.parameters()
        found = await upload.run(
            serving.pool,
            lambda: serving.probe(upload.path, model, full=query.full, stream=query.stream, cancelled=upload.cancelled),
        )
        return ProbeAnswer(request_id=request_id_of(request), sha256=upload.sha256, **dict(found))
