"""All models of a folder, for `GET /v1/models` and `python -m service models`: what is loaded, what each takes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.engine.shared import LoadedModel
from service.errors import NotReady
from service.registry import Bundle, RefusedBundle
from service.serving import Serving

_LEFT_OUT = "the setting models leaves it out"


class ModelLine(BaseModel):
    """One model in the list."""

    name: str
    version: str
    status: Literal["ready", "not_loaded", "refused"]
    reason: str | None = Field(default=None, description="Why it is not loaded, or refused.")
    sha256: str | None = None
    task: str | None = None
    labels: tuple[str, ...] = ()
    runtime: str | None = Field(default=None, description="Of what is loaded, as is `precision`.")
    precision: str | None = None
    encoder: str | None = Field(default=None, description="Name of its encoder, which several models may share.")
    encoder_loaded: bool = Field(default=False, description="Then another model on it takes memory for its head only.")
    disk_bytes: int | None = Field(default=None, description="Of head.onnx and encoder.onnx.")
    head_memory_bytes: int | None = Field(default=None, description="Measured where it is loaded, else expected.")
    encoder_memory_bytes: int | None = Field(
        default=None, description="Measured where the encoder is loaded, else expected; once for all models on it."
    )


def lines_of(serving: Serving) -> list[ModelLine]:
    """By name. The service may be loading meanwhile."""
    registry = serving.registry
    lines = [_found(serving, bundle, serving.models.get(name)) for name, bundle in list(registry.bundles.items())]
    return sorted([*lines, *map(_refused, list(registry.refused.values()))], key=lambda line: line.name)


def _refused(bundle: RefusedBundle) -> ModelLine:
    return ModelLine(name=bundle.name, version=bundle.version, status="refused", reason=bundle.reason)


def _found(serving: Serving, bundle: Bundle, loaded: LoadedModel | None) -> ModelLine:
    line = ModelLine(
        name=bundle.model.name,
        version=bundle.model.version,
        status="ready" if loaded else "not_loaded",
        reason=None if loaded else serving.registry.unloaded.get(bundle.model.name) or _LEFT_OUT,
        sha256=bundle.sha256,
        task=bundle.model.task,
        labels=bundle.model.labels,
        runtime=loaded.runtime if loaded else None,
        precision=loaded.precision if loaded else None,
        encoder=bundle.encoder.name,
        disk_bytes=bundle.disk_bytes,
    )
    try:
        takes = serving.loader.footprint(bundle)
    except NotReady as error:  # no runtime here may serve it
        return line.model_copy(update={"reason": error.detail})
    return line.model_copy(
        update={
            "encoder_loaded": takes.encoder_loaded,
            "head_memory_bytes": takes.head,
            "encoder_memory_bytes": takes.encoder,
        }
    )
