"""GET /v1/models: what is loaded, what is not, and why."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel

from service.api.examples import example
from service.api.methods import Router
from service.api.openapi import problems
from service.bundle import ModelDocument
from service.certificate import CertificateDocument
from service.errors import NotReady
from service.listing import ModelLine, lines_of
from service.model_errors import MODEL_ERRORS
from service.serving import Serving

router = Router(tags=["models"])


class ModelList(BaseModel):
    """All bundles found, also those that are not loaded, or refused."""

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
    """Models by name. `ready` are those that are loaded.

    One that is `not_loaded` or `refused` has a `reason`: the setting `models` leaves it out, it would not fit into
    memory; its certificate is missing or failed, or proves other bytes.
    """
    serving: Serving = request.app.state.serving
    return ModelList(default_model=serving.registry.default(), models=lines_of(serving))


@router.get(
    "/v1/models/{name}",
    summary="Show a model",
    responses=problems(*MODEL_ERRORS, NotReady),
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
