"""GET /v1/models: what is served, and what is refused and why."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from pydantic import BaseModel

from service.api.examples import example
from service.api.methods import Router
from service.api.openapi import problems
from service.bundle import CertificateDocument, ModelDocument
from service.errors import ModelRefused, NotReady, UnknownModel
from service.serving import Serving

router = Router(tags=["models"])


class ModelLine(BaseModel):
    """One model in the list."""

    name: str
    version: str
    status: Literal["ready", "refused"]
    reason: str | None = None
    sha256: str | None = None
    task: str | None = None
    labels: tuple[str, ...] = ()
    runtime: str | None = None
    precision: str | None = None


class ModelList(BaseModel):
    """All bundles found, refused ones too."""

    default_model: str | None
    models: list[ModelLine]


class ModelDetail(BaseModel):
    """All that is known of a served model: its document and its certificate."""

    sha256: str
    runtime: str
    precision: str
    model: ModelDocument
    certificate: CertificateDocument


@router.get(
    "/v1/models",
    summary="List models",
    responses=problems() | {200: {"content": {"application/json": example("models")}}},
)
async def list_models(request: Request) -> ModelList:
    """Models by name. A refused one has a `reason`: a missing or failed certificate, other bytes than were proven."""
    serving: Serving = request.app.state.serving
    ready = [
        ModelLine(
            name=name,
            version=model.document.version,
            status="ready",
            sha256=model.sha256,
            task=model.document.task,
            labels=model.document.labels,
            runtime=model.runtime,
            precision=model.precision,
        )
        for name, model in serving.models.items()
    ]
    refused = [
        ModelLine(name=name, version=bundle.version, status="refused", reason=bundle.reason)
        for name, bundle in serving.registry.refused.items()
    ]
    default = serving.settings.default_model or (ready[0].name if len(ready) == 1 else None)
    return ModelList(default_model=default, models=sorted(ready + refused, key=lambda line: line.name))


@router.get(
    "/v1/models/{name}",
    summary="Show a model",
    responses=problems(UnknownModel, ModelRefused, NotReady),
)
async def get_model(request: Request, name: str) -> ModelDetail:
    """One model: labels, clip spec, training, and the certificate that proves it equals what was trained."""
    serving: Serving = request.app.state.serving
    model = serving.model(name)
    return ModelDetail(
        sha256=model.sha256,
        runtime=model.runtime,
        precision=model.precision,
        model=model.document,
        certificate=serving.registry.get(name).certificate,
    )
